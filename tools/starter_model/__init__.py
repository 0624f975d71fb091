"""How `models/starter` is made: drawings and captions, the parts trained on them, the finished folder.

    python -m tools.starter_model --out models/mine

See README.md beside this file. Nothing here is imported by the app.
"""
