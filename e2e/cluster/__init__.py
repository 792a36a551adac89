"""
A real Kubernetes cluster on one Debian machine, with no container engine, registry or internet but the package mirrors.

Standard library only: it runs with the system's python3 before any virtual environment exists. Start with
``python3 -m e2e.cluster --help``; README.md beside this file says what is built and where the logs are.
"""
