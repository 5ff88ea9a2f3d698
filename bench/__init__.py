"""Measurements, each a program of its own.

    python -m bench             isr-proxy beside nginx, HAProxy, Varnish and `next start`
    python -m bench.million     a million stored pages beside a thousand
    python -m bench.soak        mixed traffic for minutes: memory, files and tasks stay flat
    python -m bench.many_urls   many distinct URLs against a small store

A file is one noun: `cases` says what is asked and `goals` what it may cost, `configs` and `servers` who
answers, `loads` and `pacing` how it is asked, `costs` what it took; `rounds` brings them together, `report`
and `plot` tell. Nothing here is imported by the proxy.
"""
