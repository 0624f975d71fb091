"""A stand-in for train_lora.py: a real process with the same files, lock, events and exit codes, and no torch.

`python standin_trainer.py --config <run>/config.json`. What it does is said by the JSON in the environment
variable STANDIN: steps, hold (step at which it waits for the file `go`), end (done | error | crash | silent_exit |
lying), deaf (ignores cancel), code, detail, exit, per (seconds a step takes), early_hold (before the first event),
busy (seconds it computes before it stops), full (the disk, when it saves what it is asked to stop with).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fea7356081"
    "0000000049454e44ae426082"
)


def lora_file(path: Path, value: float = 1.0) -> str:
    """Write a tiny real LoRA in kohya's names; return its hash."""
    import struct

    numbers = struct.pack("<4f", *[value] * 4)
    table, offset, data = {}, 0, b""
    for name, shape in (("lora_down.weight", [1, 4]), ("lora_up.weight", [4, 1])):
        table[f"{KEY}.{name}"] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 16]}
        offset, data = offset + 16, data + numbers
    table[f"{KEY}.alpha"] = {"dtype": "F32", "shape": [], "data_offsets": [offset, offset + 4]}
    data += struct.pack("<f", 1.0)
    table["__metadata__"] = {"ss_base_model_version": "sd_v1", "modelspec.trigger_phrase": "luna_character"}
    header = json.dumps(table).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class StandIn:
    def __init__(self, config: dict) -> None:
        self.how = json.loads(os.environ.get("STANDIN", "{}"))
        self.config = config
        self.run = Path(config["run_folder"])
        self.stopping = False
        signal.signal(signal.SIGTERM, self.on_term)

    def on_term(self, *args) -> None:
        self.stopping = not self.how.get("deaf")

    def say(self, event: str, **values) -> None:
        values["time"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
        with open(self.run / "events.jsonl", "a") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")

    def asked(self, what: str) -> bool:
        return (self.run / what).exists()

    def cancelled(self) -> bool:
        return (self.asked("cancel") and not self.how.get("deaf")) or self.stopping

    def wait_for(self, name: str) -> None:
        while not self.asked(name) and not self.cancelled():
            self.obey()
            time.sleep(0.005)

    def obey(self) -> None:
        if self.asked("save"):
            (self.run / "save").unlink()
            self.checkpoint()
        if self.asked("sample"):
            (self.run / "sample").unlink()
            self.sample()

    def checkpoint(self, best: bool = False) -> str:
        folder = self.run / "checkpoints" / f"{self.step:06d}"
        name = f"{self.config['name']}-{self.step:06d}.safetensors"
        lora_file(folder / name, float(self.step + 1))
        (folder / "state.pt").write_text(json.dumps({"step": self.step}))
        (folder / "checkpoint.json").write_text(json.dumps({"step": self.step, "file": name}))
        file = f"checkpoints/{folder.name}/{name}"
        self.say("checkpoint", step=self.step, file=file, best=best)
        return file

    def sample(self) -> None:
        file = f"samples/step_{self.step:06d}_0.png"
        (self.run / "samples").mkdir(exist_ok=True)
        (self.run / file).write_bytes(PNG)
        self.say("sample", step=self.step, index=0, prompt="luna", seed=42, file=file, withTrigger=True)

    def train(self) -> int:
        how, steps = self.how, int(self.how.get("steps", 4))
        lock = os.open(self.run / "run.lock", os.O_RDWR | os.O_CREAT)
        for _ in range(50):  # as the trainer does: who looks whether it is held holds it for a moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
        else:
            return 1
        if how.get("early_hold"):
            self.wait_for("go")
        print("standing in", flush=True)
        self.say("phase", name="load", detail="Loading the model")
        start = 0
        if self.config.get("resume_from"):
            found = sorted((Path(self.config["resume_from"]) / "checkpoints").glob("*/state.pt"))
            start = json.loads(found[-1].read_text())["step"]
            self.say("phase", name="resumed", detail=f"Going on from step {start} of {steps}")
        self.step = start
        self.say("ready", steps=steps, epochs=1, pictures=1, family="sd15", parameters=8, memory=1000, startStep=start)
        if not start:
            self.say("validation", step=0, loss=0.2, base=0.2)
        while self.step < steps:
            self.step += 1
            time.sleep(how.get("per", 0.0))
            self.say(
                "step", step=self.step, steps=steps, epoch=1, loss=1 / self.step, lr=1e-3, stepsPerSecond=50.0,
                etaSeconds=(steps - self.step) / 50, memoryBytes=1000 + self.step,
            )  # fmt: skip
            self.obey()
            if self.step == 2:
                self.sample()
                self.checkpoint(best=True)
                self.say("validation", step=2, loss=0.1, base=0.2)
            if self.step == how.get("hold"):
                self.wait_for("go")
            if self.cancelled():
                until = time.monotonic() + how.get("busy", 0.0)
                while time.monotonic() < until:
                    pass
                if how.get("full"):
                    self.say("error", code="storage", detail="There is no space left on the disk.", remedy="Free some.")
                    return 1
                kept = self.checkpoint()
                self.say("cancelled", step=self.step, kept=kept)
                return 130
        return self.finish()

    def finish(self) -> int:
        how = self.how
        match how.get("end", "done"):
            case "error":
                self.say(
                    "error",
                    code=how.get("code", "internal"),
                    detail=how.get("detail", "It went wrong."),
                    remedy="Try less.",
                )
                return int(how.get("exit", 1))
            case "crash":
                print(how.get("detail", "RuntimeError: CUDA out of memory"), file=sys.stderr, flush=True)
                return int(how.get("exit", 1))
            case "silent_exit":
                return 0
            case "lying":
                self.say("done", lora="nothing.safetensors", step=self.step, best=True, sha256="0")
                return 0
        name = self.config["name"]
        sha = lora_file(Path(self.config["output_folder"]) / f"{name}.safetensors", 9.0)
        self.say("report", verdict={"text": "It learned."})
        self.say("done", lora=f"{name}.safetensors", name=name, step=self.step, best=True, sha256=sha)
        return 0


if __name__ == "__main__":
    sys.exit(StandIn(json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())).train())
