"""Face finders and readers by name; each is imported when first used."""

from dalla.registry import Registry

FACE_FINDERS = Registry("face finder", {"yunet": "dalla.engines.faces.yunet:YuNet"})
FACE_READERS = Registry("face reader", {"sface": "dalla.engines.faces.sface:SFace"})
