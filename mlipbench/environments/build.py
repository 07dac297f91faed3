"""Building an environment: resolve, look at what came out, install with checksums, verify; only then does it count."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.environments.built import (
    BuiltEnvironment,
    EnvironmentBusyError,
    building,
    built_environments,
    discard,
    disk_size,
    environments_folder,
    family_identity,
    find_built,
    folder_name,
    partial,
    platform_name,
    sweep,
)
from mlipbench.environments.compute import cuda_packages, refuse_cuda
from mlipbench.environments.families import Compute, load_family
from mlipbench.environments.installed import Installation, in_short, probe, running_installation, unmet_requirements
from mlipbench.environments.lock import LOCK_FILE, Lock
from mlipbench.environments.pipconfig import pip_indexes
from mlipbench.environments.uv import Uv, UvError
from mlipbench.errors import ConfigError, PrerequisiteError, from_os_error

if TYPE_CHECKING:
    from mlipbench.environments.families import Family
    from mlipbench.progress import Display

_BACKEND: Final = "torch-backend"
_SOURCE: Final = "source.lock"
_NOTED: Final = re.compile(r"(?:Building|Downloading) \S+(?: \((?:[\d.]+GiB|\d{3,}(?:\.\d+)?MiB)\))?$")
_FINISHED: Final = ("Downloaded ", "Built ")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is to be built.

    Attributes:
        name: Name of the family.
        cache: The cache.
        compute: What it is built for.
        configuration: Path of the user's configuration file, for remedies.
        python: Interpreter whose version it gets; None takes the running one.
        lock: A lock to repeat; None resolves anew.
    """

    name: str
    cache: Path
    compute: Compute
    configuration: Path
    python: Path | None = None
    lock: Path | None = None


def create_environment(request: BuildRequest, display: Display) -> BuiltEnvironment:
    """Return an environment of a family, built unless it is there.

    Args:
        request: What is to be built.
        display: Shows progress.

    Raises:
        ConfigError: The family or its interpreter is unknown, or the lock does not fit.
        PrerequisiteError: It cannot be built, with the cause; or CUDA packages would come to a machine without.
        MlipbenchError: The cache cannot be written.
    """
    family = load_family(request.name, request.compute)
    base = running_installation([]) if request.python is None else probe(request.python)
    lock = None if request.lock is None else _checked_lock(request.lock, family, base)
    identity = family_identity(family, request.compute)
    folder = folder_name(identity, family.name, base.python, None if lock is None else lock.sha256)
    build = _Build(request, family, base, identity, folder, display)
    if (found := build.found(lock)) is not None:
        return found
    try:
        with building(request.cache, folder, wait=False):
            return build.found(lock) or build.make(lock)
    except EnvironmentBusyError:
        display.note(f"{family.name}: another process builds this environment; waiting for it")
    with building(request.cache, folder, wait=True):
        return build.found(lock) or build.make(lock)


@dataclass(frozen=True, slots=True)
class _Build:
    """One build, whose lock is held."""

    request: BuildRequest
    family: Family
    base: Installation
    identity: str
    folder: str
    display: Display

    @property
    def root(self) -> Path:
        return environments_folder(self.request.cache)

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"{self.folder}.log"

    def found(self, lock: Lock | None) -> BuiltEnvironment | None:
        """Return what is there already; one of a given lock becomes the newest."""
        cache, name = self.request.cache, self.family.name
        if lock is None and self.request.python is None:
            return find_built(cache, name, self.identity)
        if lock is None:
            return BuiltEnvironment.read(self.root / self.folder)
        same = [found for found in built_environments(cache, name) if found.family == self.identity]
        chosen = next((found for found in same if found.lock_sha256 == lock.sha256), None)
        if chosen is not None and chosen is not same[0]:
            chosen = replace(chosen, created=time.time())
            chosen.write(chosen.folder)
        return chosen

    def make(self, lock: Lock | None) -> BuiltEnvironment:
        """Build it beside its place, then move it there."""
        started = time.monotonic()
        place = self.root / self.folder
        try:
            sweep(self.request.cache)
            target = partial(self.root, self.folder)
            if target.exists():  # of a build that died; the lock of its folder is ours now
                shutil.rmtree(target)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_text("", encoding="utf-8")
            try:
                with tempfile.TemporaryDirectory(prefix="mlipbench-") as scratch:
                    made = self._filled(target, lock, Path(scratch))
                if place.exists():  # incomplete, or its interpreter is gone
                    discard(place)
                target.rename(place)
            finally:
                shutil.rmtree(target, ignore_errors=True)
        except OSError as error:
            raise from_os_error(error, place) from error
        self.display.note(
            f"{self.family.name}: ready, {made.packages} packages, {in_bytes(made.size)} on disk, "
            f"{time.monotonic() - started:.0f} s, in {place}"
        )
        return made

    def _filled(self, target: Path, lock: Lock | None, scratch: Path) -> BuiltEnvironment:
        name = self.family.name
        uv = Uv(pip_indexes(), self.log, scratch)
        try:
            lock = lock or self._resolved(uv)
            if self.request.compute is Compute.CPU:
                refuse_cuda(name, lock.packages, self.request.configuration)
            self._install(uv, lock, target)
        except UvError as error:
            source, remedy = self.family.source, f"see {self.log}"
            if source is not None and source.lacks_compiler():
                remedy = f"{source.package} is compiled: install a C++ compiler (Debian: apt-get install g++); {remedy}"
            raise PrerequisiteError(f"the environment {name!r} cannot be built: {error}", remedy=remedy) from None
        self._verify(target, lock)
        (target / LOCK_FILE).write_text(lock.text, encoding="utf-8")
        made = BuiltEnvironment(
            folder=self.root / self.folder,
            name=name,
            family=self.identity,
            python=self.base.python,
            compute=self.request.compute.value,
            packages=len(lock.packages),
            size=disk_size(target),
            created=time.time(),
            lock_sha256=lock.sha256,
        )
        made.write(target)
        return made

    def _resolved(self, uv: Uv) -> Lock:
        """Return what the requirements come to; nothing but metadata is downloaded."""
        self.display.note(f"{self.family.name}: resolving {len(self.family.requirements)} requirements")
        lock = self._compiled(uv)
        own = uv.indexes.index or uv.indexes.no_index
        if self.request.compute is Compute.CPU and cuda_packages(lock.packages) and not own:
            with contextlib.suppress(UvError):  # PyTorch's own index holds the CPU build, where it can be reached
                return self._compiled(uv, "cpu")
        return lock

    def _compiled(self, uv: Uv, backend: str | None = None) -> Lock:
        family = self.family
        words = ["pip", "compile", "-", "--generate-hashes", "--no-annotate", "--no-header", *uv.indexes.options()]
        words += ["--python", str(self._python())]
        if family.overrides:
            overrides = uv.folder / "overrides.txt"
            overrides.write_text("".join(f"{line}\n" for line in family.overrides), encoding="utf-8")
            words += ["--override", str(overrides)]
        facts = {
            "environment": family.name,
            "python": _minor(self.base.python),
            "platform": platform_name(),
            "compute": self.request.compute.value,
        }
        if backend is not None:
            words += [f"--{_BACKEND}", backend]
            facts[_BACKEND] = backend
        return Lock.made(facts, uv.run(*words, text="".join(f"{line}\n" for line in family.resolved)))

    def _install(self, uv: Uv, lock: Lock, target: Path) -> None:
        """Make a virtual environment of exactly what the lock holds, every file's checksum compared.

        A package that is built from source comes last, as its build uses the others.
        """
        source, listed, lines = self.family.source, uv.folder / LOCK_FILE, lock.lines()
        if source is not None:
            (uv.folder / _SOURCE).write_text(lines.pop(source.package), encoding="utf-8")
        listed.write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")
        words = ["--require-hashes", *uv.indexes.options(), "--python", str(target / "bin" / "python")]
        if _BACKEND in lock.facts:
            words += [f"--{_BACKEND}", lock.facts[_BACKEND]]
        title = f"environment {self.family.name}"
        uv.run("venv", str(target), "--relocatable", "--no-project", "--python", str(self._python()))
        self.display.begin(title, len(lock.packages), "packages")
        finished = _Counted(self.display)
        try:
            uv.run("pip", "sync", str(listed), *words, follow=finished.hear)
            if source is not None:
                words += ["--no-deps", *source.options()]
                builder = replace(uv, variables=source.variables)
                builder.run("pip", "install", "-r", str(uv.folder / _SOURCE), *words, follow=finished.hear)
        except BaseException:
            self.display.end(title, "failed")
            raise
        self.display.advance(len(lock.packages) - finished.count)
        self.display.end(title, "ok")

    def _verify(self, target: Path, lock: Lock) -> None:
        """Check that the interpreter starts and sees just the versions of the lock.

        Raises:
            PrerequisiteError: It does not.
        """
        from packaging.utils import canonicalize_version

        installed = probe(target / "bin" / "python")
        # some packages spell their version in another way than the index: 1.0-3 is 1.0.post3
        found = {name: canonicalize_version(version) for name, version in installed.packages.items()}
        pins = lock.packages.items()
        wrong = [f"{name}=={version}" for name, version in pins if found.get(name) != canonicalize_version(version)]
        wrong = wrong or unmet_requirements(self.family.effective(), installed)
        if wrong:
            raise PrerequisiteError(
                f"the environment {self.family.name!r} came out without {in_short(wrong)}", remedy=f"see {self.log}"
            )

    def _python(self) -> Path:
        return self.request.python or Path(sys.executable)


@dataclass(slots=True)
class _Counted:
    """Counts the packages that are there, as uv says it."""

    display: Display
    count: int = 0

    def hear(self, line: str) -> None:
        if line.startswith(_FINISHED):
            self.count += 1
            self.display.advance(1)
        elif _NOTED.match(line):
            self.display.note(line[0].lower() + line[1:])


def in_bytes(size: int) -> str:
    """Return a size for reading, such as ``1.1 GB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1000:.3g} kB"


def _checked_lock(path: Path, family: Family, base: Installation) -> Lock:
    """Return a lock that is one of the family and for this Python.

    Raises:
        ConfigError: It is not.
        PrerequisiteError: It is missing, or was made for another Python.
    """
    lock = Lock.read(path)
    made_for = lock.facts.get("python", _minor(base.python))
    if made_for != _minor(base.python):
        raise PrerequisiteError(
            f"was made for Python {made_for}, and this is {base.python}", file=path, remedy="give --python"
        )
    unmet = unmet_requirements(family.effective(), Installation(base.python, lock.packages, base.markers))
    if unmet:
        raise ConfigError(f"does not fit the environment {family.name!r}: {in_short(unmet)}", file=path)
    return lock


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
