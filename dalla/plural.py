"""Counts as people read them."""


def counted(number: int, noun: str) -> str:
    """Return "1 picture", "2 pictures"; for nouns whose plural takes an s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
