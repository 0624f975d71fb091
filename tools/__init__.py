"""Programs for people who work on the project; the app itself needs none of them."""
