"""Numbers with their nouns, for messages."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Formats a number and its noun, which is in the plural unless the number is 1.

    Args:
        number: The number.
        noun: The noun in the singular.
        plural: Its plural, where that is not the noun with an s.

    >>> counted(1, "image"), counted(2000, "image"), counted(0, "class", "classes")
    ('1 image', '2,000 images', '0 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
