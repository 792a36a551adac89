"""End-to-end: the throwaway cluster and the suite that runs on it."""
