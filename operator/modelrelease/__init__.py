"""ModelRelease: release machine-learning models on Kubernetes, judged slice by slice."""
