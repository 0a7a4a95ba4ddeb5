"""The workloads; each module has ``run(stage)``, which returns a report."""
