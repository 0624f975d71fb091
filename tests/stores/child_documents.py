"""Write prompts into a file for ever and print the number of each one that was acknowledged.

Run as a child process by test_documents_json.py, which kills it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dalla.records.character import Prompt
from dalla.stores.documents_json import JsonDocuments


def main(path: str, first: int, count: int) -> None:
    store = JsonDocuments(Path(path), Prompt, "prompt")
    print("ready", flush=True)
    sys.stdin.readline()  # so that several can be let go at once
    for number in range(first, first + count):
        store.insert(Prompt(id=f"prompt_{number}", prompt="words " * 50))
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
