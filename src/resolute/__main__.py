"""``python -m resolute`` is the command ``resolute``."""

from resolute.cli import run

if __name__ == "__main__":
    run()
