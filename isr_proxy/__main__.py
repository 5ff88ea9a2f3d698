"""`python -m isr_proxy` is `isr-proxy`."""

from isr_proxy.cli import main

if __name__ == "__main__":
    main()
