"""What each store promises. Contract suites in tests/stores run on every implementation."""

from dalla.stores.base.datasets import CaptionStore, DatasetStore, DatasetVersionStore
from dalla.stores.base.documents import BlobStore, DocumentsStatus, DocumentStore, IdempotencyStore, SecretStore
from dalla.stores.base.media import MediaStore, Page
from dalla.stores.base.posts import AccountStore, PostStore
from dalla.stores.base.runs import LeaseStore, NoticeStore, RunStore
from dalla.stores.base.shelf import ShelfStore
from dalla.stores.base.users import Lock, UserStore

__all__ = [
    "AccountStore",
    "BlobStore",
    "CaptionStore",
    "DatasetStore",
    "DatasetVersionStore",
    "DocumentStore",
    "DocumentsStatus",
    "IdempotencyStore",
    "LeaseStore",
    "Lock",
    "MediaStore",
    "NoticeStore",
    "Page",
    "PostStore",
    "RunStore",
    "SecretStore",
    "ShelfStore",
    "UserStore",
]
