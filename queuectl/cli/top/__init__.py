"""``queuectl top``: a live screen of the store, with keys to pause, cancel, retry and follow.

``watch`` reads the store, ``snapshot`` says what is shown of it, ``acts`` is what keys do to it:
none of them knows of a terminal. ``desk`` keeps all of that in one thread. The rest is Textual's:
``app`` and its screens, ``tables``, and the keys in ``keys``. Only ``command`` is imported before
somebody runs it.
"""
