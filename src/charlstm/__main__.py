"""``python -m charlstm`` runs the ``charlstm`` command."""

from charlstm.cli import main

if __name__ == "__main__":
    main()
