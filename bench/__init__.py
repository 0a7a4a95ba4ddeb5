"""Measurements beside other queues and the machine's limit: ``python -m bench [WORKLOAD ...]``.

``contest`` runs contenders in turn, ``workloads`` holds a file for each thing that is measured,
``apps`` the programs that drive other queues (they run in an environment of their own, which
``peers`` makes; ``postgresql`` and ``redis`` start the servers that some of them need), ``report``
keeps what was found, and ``chart`` draws it.
"""
