"""``python -m charlstm``: the same program as the ``charlstm`` command."""

from charlstm.cli import main

if __name__ == "__main__":
    main()
