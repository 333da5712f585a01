"""One step with explicit state -> other runtimes; the only rooms that know them.

``artifact`` is what goes out, ``place`` where to, ``check`` whether it does what the model does;
each other module is a format, with ``write``, ``load`` and WINDOW.
"""
