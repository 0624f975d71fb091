"""Digital Dalla: the studio for AI characters. Start with architecture.md."""

__version__ = "0.1.0"
