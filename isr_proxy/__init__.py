"""isr-proxy: Incremental Static Regeneration in front of any origin.

    cli.py      commands                          run/      wiring: config, worker, supervisor
    serve/      HTTP in, engine, admin, metrics   store/    where entries lie
    origin/     the app behind us                 coord/    who may regenerate; what was purged
    core/       pure values and decisions         errors.py every exception

Imports go one way: cli, run, serve, then store | coord | origin (which do not know each other), core,
errors. One request goes front -> core.routes -> core.key -> store -> core.policy -> engine, and what the
engine does is named by the Decision it was given. docs/architecture.md tells the whole story.
"""

__version__ = "0.1.0"
