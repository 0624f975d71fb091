"""The one file that names concrete classes. Read `Container` to know what the app consists of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dalla.engines.captions import CAPTION_ENGINES
from dalla.engines.captions.vision.base import VisionEngines
from dalla.engines.faces import FACE_FINDERS, FACE_READERS
from dalla.engines.images import ENGINES
from dalla.engines.images.base import ImageEngine
from dalla.engines.images.local_models import LocalModels
from dalla.engines.trainer import Trainer
from dalla.engines.upscale import UPSCALERS
from dalla.engines.weights_converter import WeightsConverter
from dalla.errors import NotConfigured, StorageError
from dalla.events import EventBus
from dalla.jobs.local import LocalQueue, owner_is_alive
from dalla.platforms import PLATFORMS
from dalla.platforms import reach as platforms_reach
from dalla.platforms.hosting import Hosting
from dalla.platforms.outbox import outbox_session
from dalla.platforms.session import live_session
from dalla.records.character import Character, Prompt, ScheduledTask, TrashedCharacter
from dalla.records.finding import Finding
from dalla.registry import BuiltOnce
from dalla.services.auth import Auth
from dalla.services.auth_users import Users
from dalla.services.automation import Automation
from dalla.services.backups import Backups
from dalla.services.calendar import Calendar
from dalla.services.caption_operations import caption_operations
from dalla.services.captioning import Captioning
from dalla.services.characters import Characters
from dalla.services.connections import Connections
from dalla.services.dataset_captions import DatasetCaptions
from dalla.services.dataset_check import DatasetCheck
from dalla.services.dataset_exports import DatasetExports
from dalla.services.dataset_import import DatasetImport
from dalla.services.dataset_masks import DatasetMasks
from dalla.services.dataset_versions import DatasetVersions
from dalla.services.datasets import Datasets
from dalla.services.duplicates import Duplicates
from dalla.services.file_trash import FileTrash
from dalla.services.gallery import Gallery
from dalla.services.generation import Generation
from dalla.services.home import Home
from dalla.services.image_batches import ImageBatches
from dalla.services.image_dedupe import Dedupe
from dalla.services.image_operations import Analyze, FaceCrop, Resize
from dalla.services.image_upscale import Upscale
from dalla.services.log_bundle import LogBundle
from dalla.services.log_view import LogView
from dalla.services.mask_faces import MaskFaces
from dalla.services.metrics import Metrics
from dalla.services.model_files import ModelFiles
from dalla.services.model_fit import ModelFit
from dalla.services.model_hashes import ModelHashes
from dalla.services.model_inventory import Inventory
from dalla.services.model_resident import ModelResident
from dalla.services.model_shelf import ModelShelf
from dalla.services.model_trash import ModelTrash
from dalla.services.model_versions import ModelVersions
from dalla.services.notices import Notices
from dalla.services.pauses import Pauses
from dalla.services.picture_captions import PictureCaptions
from dalla.services.platform_access import PlatformAccess
from dalla.services.posts import Posts
from dalla.services.processed_pictures import ProcessedPictures
from dalla.services.prompts import Prompts
from dalla.services.publishing import Publishing
from dalla.services.restart import Restart
from dalla.services.restore import Restore
from dalla.services.restore_stage import Stager
from dalla.services.samples import Samples
from dalla.services.service_tests import ServiceTests
from dalla.services.storage import Storage
from dalla.services.storage_clean import Cleaner
from dalla.services.storage_finds import Finder
from dalla.services.storage_move import Mover
from dalla.services.storage_sizes import Sizes
from dalla.services.system import System
from dalla.services.training import Training, train_task
from dalla.services.uploads import Uploads
from dalla.services.url_uploads import UrlUploads
from dalla.settings import Settings
from dalla.stores import reach as stores_reach
from dalla.stores import restored
from dalla.stores.accounts import SqlAccounts
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.documents_json import JsonDocuments
from dalla.stores.idempotency import SqlIdempotency
from dalla.stores.leases import SqlLeases
from dalla.stores.library import Library
from dalla.stores.media import SqlMedia
from dalla.stores.notices import SqlNotices
from dalla.stores.posts import SqlPosts
from dalla.stores.runs import SqlRuns
from dalla.stores.secrets import FileSecrets
from dalla.stores.shelf import SqlShelf
from dalla.stores.storage_facts import SqlStorageFacts
from dalla.stores.tasks import SqlTasks
from dalla.stores.users import SqlUsers
from dalla.tokens import TokenCounter


class LazyEngines(BuiltOnce[ImageEngine]):
    """The image engines in the order `auto` tries them; each is built when first asked for."""

    def __init__(self, settings: Settings, local: LocalModels) -> None:
        """`local` is what the built-in engine and the trainer know of models/ and loras/."""
        super().__init__(ENGINES, settings)
        self._local = local
        self.measured: Callable[[dict[str, Any]], None] = lambda facts: None  # ModelFit.learn, once it is there

    def _build(self, name: str) -> ImageEngine:
        more = {"local": self._local, "measured": lambda f: self.measured(f)} if name == "builtin" else {}
        engine: ImageEngine = self._registry.load(name)(*self._arguments, **more)
        return engine

    def all(self) -> list[ImageEngine]:
        return [self.get(name) for name in self.names()]

    def forget_status(self) -> None:
        """Let a changed setting show at once instead of after the cached seconds."""
        for engine in self.built():
            engine.status(fresh=True)

    def free_memory(self) -> None:
        """Let the engines give back what they hold, so that training has the graphics card to itself."""
        stop = getattr(self._built.get("builtin"), "stop_child", None)
        if stop is not None:
            stop()
        free = getattr(self.get("comfyui"), "free_memory", None)  # it may be full of another program's models
        if free is not None:
            free()


class Container:
    """Every store and service of one running app."""

    def __init__(
        self, settings: Settings, *, environ: Mapping[str, str] | None = None, immediate_jobs: bool = False
    ) -> None:
        self.settings = settings
        self.run_id = f"{time.time_ns() // 1_000_000:x}"
        data = Path(settings.data_dir)
        make_folders(settings)
        self.events = EventBus()

        # stores
        self.secrets = FileSecrets(data / "secrets", settings.secret_key or None)
        settings.attach_secrets(self.secrets)
        self.characters_file = JsonDocuments(data / "characters.json", Character, "character")
        self.scheduler_file = JsonDocuments(data / "scheduler.json", ScheduledTask, "scheduled task")
        self.prompts_file = JsonDocuments(data / "prompts.json", Prompt, "prompt")
        self.character_trash = JsonDocuments(data / "trash" / "characters.json", TrashedCharacter, "deleted character")
        self.library = Library.open(data / "dalla.db")
        self.media = SqlMedia(self.library)
        self.tasks = SqlTasks(self.library)
        self.idempotency = SqlIdempotency(self.library)
        self.post_rows = SqlPosts(self.library)
        self.account_rows = SqlAccounts(self.library)
        self.runs_store = SqlRuns(self.library)
        self.notice_rows = SqlNotices(self.library)
        self.leases = SqlLeases(self.library)
        self.dataset_rows = SqlDatasets(self.library)
        self.caption_rows = SqlCaptions(self.library)
        self.version_rows = SqlDatasetVersions(self.library)
        self.blobs = FileBlobs(data)
        self.user_rows = SqlUsers(self.library)
        self.auth = Auth(settings, self.user_rows)
        self.users = Users(self.user_rows, self.auth)

        # jobs and engines
        self.jobs = LocalQueue(self.tasks, self.events, immediate=immediate_jobs)
        self.local_models = LocalModels(settings)
        self.engines = LazyEngines(settings, self.local_models)
        self.faces = FACE_FINDERS.load("yunet")(settings)

        # services
        self.characters = Characters(
            self.characters_file,
            self.character_trash,
            self.secrets,
            self.prompts_file,
            self.scheduler_file,
            self.media,
            self.events,
            environ,
        )
        self.gallery = Gallery(self.media, self.blobs, self.events)
        self.hosting = Hosting(settings, self.blobs, self.secrets)
        self.platforms = PlatformAccess(
            self.characters,
            self.account_rows,
            self.post_rows,
            PLATFORMS.names(),
            lambda name: PLATFORMS.load(name)(settings),
            live_session,
            outbox_session,
        )
        self.generation = Generation(settings, self.engines, self.characters, self.gallery, self.jobs)
        self.notices = Notices(settings, self.notice_rows, self.secrets, self.events, self.jobs)
        self.captioning = Captioning(
            settings,
            self.characters,
            self.gallery,
            self.prompts_file,
            self.post_rows,
            self.jobs,
            self.events,
        )
        self.prompts = Prompts(
            self.prompts_file,
            self.characters,
            self.captioning,
            self.post_rows,
            self.jobs,
            self.events,
            data_dir=data,
        )
        self.posts = Posts(
            settings,
            self.post_rows,
            self.account_rows,
            self.leases,
            self.characters,
            self.gallery,
            self.blobs,
            self.platforms,
            self.faces,
            self.hosting,
            self.events,
        )
        self.publishing = Publishing(
            settings,
            self.post_rows,
            self.account_rows,
            self.posts,
            Pauses(self.leases, self.events),
            self.characters,
            self.platforms,
            self.blobs,
            self.hosting,
            self.gallery,
            self.notices,
            self.prompts,
            self.jobs,
            self.events,
            owner=self.jobs.owner,
            is_dead=owner_is_dead,
        )
        self.connections = Connections(
            settings,
            self.account_rows,
            self.characters,
            self.platforms,
            self.hosting,
            self.notices,
            self.events,
            self.publishing,
            self.leases,
            posts=self.post_rows,
        )
        self.automation = Automation(
            settings,
            self.scheduler_file,
            self.runs_store,
            self.leases,
            self.characters,
            self.generation,
            self.gallery,
            self.captioning,
            self.prompts,
            self.posts,
            self.publishing,
            self.notices,
            self.jobs,
            self.events,
            data,
            owner=self.jobs.owner,
            is_dead=owner_is_dead,
            used_media=self.post_rows.used_media,
        )
        self.publishing.listeners.append(self.automation.on_post_settled)
        self.posts.listeners.append(self.publishing.settled)  # what a person ends is told like what a platform ends
        self.posts.planned = self.automation.occurrences
        self._datasets()
        self.training = Training(
            settings,
            Trainer(),
            self.local_models,
            self.characters,
            self.notices,
            self.jobs,
            self.tasks,
            self.events,
            data,
            machine=lambda: self.system.samples.latest(),
            free_memory=self.engines.free_memory,
            materialize=self.dataset_exports.materialize,
        )
        self._shelf(data)
        self.automation.register_type("train_lora", *train_task(self.training), label="Train a LoRA")
        self.calendar = Calendar(settings, self.posts, self.automation, self.characters)
        documents: dict[str, Any] = {
            "characters": self.characters_file,
            "scheduler": self.scheduler_file,
            "prompts": self.prompts_file,
        }
        self.system = System(
            settings,
            self.engines,
            self.characters,
            documents,
            self.library.check,
            self.tasks,
            self.jobs,
            Samples(data, self.events, depth=self._depth),
            self.captioning,
            self.connections,
            self.notices.webhooks,
        )
        self.logs = LogView(data / "logs")
        self.bundle = LogBundle(
            settings, self.logs, self.system, self.tasks, self.characters, self.secrets, self.library.version
        )
        self.metrics = Metrics(self.tasks, self.jobs, self.post_rows, self.gallery, self.system)
        self.service_tests = ServiceTests(
            settings,
            engine=lambda name, s: ENGINES.load(name)(s),
            writer=lambda name, s: CAPTION_ENGINES.load(name)(s),
            hosting=lambda s: Hosting(s, self.blobs, self.secrets),
            probes=PROBES,
            has_accounts=self.user_rows.any,
        )
        self._storage(data)
        self.home = Home(
            self.system,
            self.characters,
            self.gallery,
            self.tasks,
            self.posts,
            self.post_rows,
            self.publishing,
            self.automation,
            self.runs_store,
            self.connections.status,
        )

    def _storage(self, data: Path) -> None:
        """Sizes, cleaning, moving, backups, restoring and starting again."""
        settings, jobs, tasks, events = self.settings, self.jobs, self.tasks, self.events
        facts = SqlStorageFacts(self.library)
        removers: dict[str, Callable[[str], object]] = {
            "media": lambda id: self.gallery.bulk("delete", [id]),
            "dataset": self.datasets.delete_for_good,
            "image": lambda id: self.datasets.delete_pictures([id]),
            "export": lambda key: self.dataset_exports.delete(key.partition("/")[0], int(key.partition("/")[2])),
        }
        cleaner = Cleaner(settings, Finder(settings, facts, tasks), removers, jobs, events)
        mover = Mover(settings, jobs, tasks, events, moved=self._moved)
        self.storage = Storage(Sizes(settings, facts), cleaner, mover, jobs, tasks, events)
        # Keys that somebody wrote into the file by hand go to the encrypted store before it is copied.
        self.backups = Backups(settings, self.secrets, jobs, events, before=self.characters.all)
        self.restore = Restore(data, stager(settings), self.backups, self.uploads, self.notices, jobs, events)
        self.restart = Restart(tasks, self.post_rows)

    def _moved(self, location: str) -> None:
        """A folder lies elsewhere now: forget what was read from the old place."""
        if location == "models":
            self.dataset_captions.tokens = TokenCounter(Path(self.settings.models_dir))
        self.engines.forget_status()

    def _datasets(self) -> None:
        """Datasets: import, batch work, captions, versions and exports."""
        settings, store, events, jobs = self.settings, self.dataset_rows, self.events, self.jobs
        self.datasets = Datasets(settings, store, self.caption_rows, self.version_rows, self.blobs, events)
        self.uploads = Uploads(settings)
        self.url_uploads = UrlUploads(self.uploads, jobs)
        self.dataset_import = DatasetImport(settings, self.datasets, store, self.blobs, self.uploads, jobs)
        self.dataset_check = DatasetCheck(
            self.datasets, store, self.version_rows, self.blobs, self.dataset_import.claims, jobs
        )
        self.image_batches = ImageBatches(
            settings, self.datasets, store, self.caption_rows, self.blobs, self.faces, jobs, events
        )
        self.duplicates = Duplicates(store, events)
        self.dataset_captions = DatasetCaptions(settings, store, self.caption_rows, jobs, events)
        self.datasets.after_captions = self.dataset_captions.changed
        self.vision = VisionEngines(settings)
        self.picture_captions = PictureCaptions(
            settings,
            store,
            self.dataset_captions,
            self.blobs,
            self.vision,
            free_memory=self.engines.free_memory,
        )
        self.upscaler = UPSCALERS.load("esrgan")(settings)
        pictures = ProcessedPictures(store, self.blobs, self.version_rows)
        self.dataset_masks = DatasetMasks(self.datasets, store, self.version_rows, self.blobs)
        operations: tuple[Any, ...] = (
            FaceCrop(store, pictures, self.faces),
            MaskFaces(store, pictures, self.dataset_masks, self.faces),
            Analyze(store, pictures, self.faces, FACE_READERS.load("sface")(settings), self.dataset_captions.count_all),
            Resize(store, pictures),
            Upscale(pictures, self.upscaler),
            Dedupe(store, pictures),
            *caption_operations(self.picture_captions),
        )
        for operation in operations:
            self.image_batches.register(operation)
        self.dataset_versions = DatasetVersions(self.datasets, store, self.caption_rows, self.version_rows, self.blobs)
        self.dataset_exports = DatasetExports(
            settings, self.datasets, store, self.version_rows, self.dataset_versions, self.blobs, jobs
        )

    def _shelf(self, data: Path) -> None:
        """The model shelf: what weights there are, their memory, trash, pins and change log."""
        settings, store, loras = self.settings, SqlShelf(self.library), self.training.shelf
        inventory = Inventory(settings, self.local_models, self.engines)
        hashes = ModelHashes(inventory, store, self.jobs)
        fit = ModelFit(settings, inventory, store, lambda: self.system.samples.latest(), self.engines)
        self.engines.measured = fit.learn
        versions = ModelVersions(self.characters, inventory, hashes, store)
        self.characters.changed = versions.changed
        self.generation.warnings = versions.warnings
        self.model_shelf = ModelShelf(
            settings,
            inventory,
            store,
            hashes,
            fit,
            ModelTrash(settings, inventory, loras, FileTrash(data, "loras"), self.events),
            ModelFiles(settings, inventory, loras, self.uploads, WeightsConverter(), self.jobs, self.events),
            versions,
            ModelResident(self.engines, self._holders),
            self.characters,
            self.scheduler_file,
            self.tasks,
            self.generation.default_model,
        )

    def _holders(self) -> list[tuple[str, str, Any]]:
        """Children that keep a model, beside the image engines: (key, label, holder)."""
        described = [(e.name, e.label, e) for e in self.vision.built() if hasattr(e, "resident")]
        return [*described, ("upscaler", "Upscaler", self.upscaler)]

    def _depth(self) -> dict[str, int]:
        lanes = self.tasks.depth().values()
        return {state: sum(lane[state] for lane in lanes) for state in ("queued", "running")}

    def close(self) -> None:
        """Stop what runs and free what is held, in the opposite order."""
        self.events.close()
        self.automation.close()
        self.captioning.close()
        self.jobs.stop()
        self.system.samples.stop()
        self.upscaler.close()
        self.picture_captions.close()
        self.engines.close()
        self.library.close()


def _bucket(settings: Settings) -> Finding:
    from dalla.platforms.bucket import Bucket

    if not (settings.s3_endpoint and settings.s3_bucket):
        raise NotConfigured("No bucket is set.", remedy="Enter the address and the name of the bucket.")
    return Bucket(settings).probe()


#: Tries of what the settings point at that need nothing but the settings.
PROBES: dict[str, Callable[[Settings], Finding]] = {
    "bucket": _bucket,
    "instagram": platforms_reach.instagram,
    "x": platforms_reach.x,
    "database": stores_reach.database,
    "redis": stores_reach.redis,
}


def owner_is_dead(owner: str) -> bool:
    """Whether the process of an owner is certainly gone."""
    return not owner_is_alive(owner)


def stager(settings: Settings) -> Stager:
    """What checks and unpacks backups, also where nothing else runs."""
    return Stager(settings, restored, lambda folder: FileSecrets(folder, settings.secret_key or None))


def settle_folders(data: Path) -> bool:
    """Before anything is opened: end a move that was cut off, put a staged restore in place.

    Returns whether the settings may have changed. Raises StorageError.
    """
    changed = False
    if (data / "move.json").exists():
        from dalla.services.storage_relocation import settle_move

        changed = settle_move(data)
    if (data / "restore").exists():
        from dalla.services.restore_apply import apply_staged

        changed = apply_staged(data, restored.settle) is not None or changed
    return changed


def make_folders(settings: Settings) -> None:
    """Create the folders the app writes to. Raises StorageError with a sentence for the start-up screen."""
    data = Path(settings.data_dir)
    try:
        # What is in it is nobody else's on this computer; a folder that is there keeps its rights.
        if not data.exists():
            data.mkdir(parents=True)
            data.chmod(0o700)
        for folder in (data, data / "media", data / "trash", data / "runs", data / "uploads"):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (settings.training_data_dir, settings.loras_dir, settings.models_dir):
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(
            f"The folder {exc.filename or data} cannot be created: {exc.strerror}.",
            remedy="Give this user write permission there, or set DALLA_DATA_DIR to another folder.",
        ) from exc
