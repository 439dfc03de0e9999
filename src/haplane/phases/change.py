"""`Change` is the only door to a machine: in a plan it records sentences and diffs, in an apply it acts."""

from __future__ import annotations

import difflib
import io
import re
import shlex
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from haplane.components.base import RUN, STATE, ComponentDesign, File, FileSet, Load, Loaded
from haplane.model.errors import CommandFailed, HaplaneError
from haplane.model.progress import Progress
from haplane.observe.facts import LOADED, WRITTEN, Facts
from haplane.phases.lock import LOST, LockLost, guard
from haplane.transport.ssh import Completed, Remote, Unreachable

JOB_TIMEOUT_S = 900
# Exit code of a write that failed after the first file was replaced: before that, nothing has changed.
HALF_WRITTEN = 95


@dataclass(frozen=True)
class Step:
    """One mutation as a plan shows it. diff: unified, empty for what is not a file."""

    machine: str
    phase: str
    sentence: str
    diff: str = ""


@dataclass
class Change:
    """One machine within one phase. dry: nothing is touched, steps are recorded.

    gated: what daemons have loaded is remembered only by `confirm`, after the gate, so that a death in between makes
    the next apply load (and gate) again.
    """

    machine: str
    phase: str
    remote: Remote
    facts: Facts
    token: str
    progress: Progress
    dry: bool
    steps: list[Step] = field(default_factory=list)
    gated: bool = False
    _written: list[File] = field(default_factory=list)
    _loaded: list[ComponentDesign] = field(default_factory=list)

    async def sh(
        self, script: str, *, shown_as: str = "", stdin: bytes | None = None, timeout_s: float = 120
    ) -> Completed:
        """Run a script under the lock. Only from actions: never in a dry run."""
        assert not self.dry, "a dry run must not touch a machine"
        try:
            return await self.remote.run(
                guard(self.token) + script, shown_as=shown_as, stdin=stdin, timeout_s=timeout_s
            )
        except CommandFailed as error:
            if error.code == LOST:
                raise LockLost(
                    f"the lock on {self.machine} was lost",
                    where=error.where,
                    why="the machine was restarted, or another haplane took over after this one was silent too long",
                    hint="run the same command again",
                ) from error
            raise

    async def do(self, sentence: str, action: Callable[[], Awaitable[object]], *, diff: str = "") -> None:
        """A mutation: the sentence that a plan prints, and the action."""
        self.steps.append(Step(self.machine, self.phase, sentence, diff))
        if not self.dry:
            self.progress.step(self.machine, sentence)
            await action()

    async def component(self, design: ComponentDesign, *, was_stopped: bool = False) -> bool:
        """Bring files and daemon to the design; True if anything differed. was_stopped: by this apply."""
        await self.files(design)
        if not self.differs(design):
            return False
        _, active = self.facts.units.get(design.unit, ("enabled", "active"))
        load = design.load
        if (was_stopped or (active != "active" and not design.started_later)) and design.start:
            load = design.start
        elif design.restart and self.loaded(design).started != design.loaded.started:
            load = design.restart
        await self.do(load.sentence, lambda: self._load(design, load))
        return True

    async def files(self, design: ComponentDesign) -> None:
        """Bring the files alone to the design."""
        for files in design.file_sets:
            differing = self._differing(files)
            if differing:
                await self.do(
                    f"write {', '.join(self._named(file) for file in differing)}",
                    partial(self._install, design, files),
                    diff=await self._diff(files),
                )

    def loaded(self, design: ComponentDesign) -> Loaded:
        """What the daemon uses now; empty digests when that is not known."""
        return Loaded.parse(self.facts.loaded.get(design.name, ""))

    def differs(self, design: ComponentDesign) -> bool:
        """Is anything of it not as designed: a file, what the daemon uses, or whether it runs?"""
        enabled, active = self.facts.units.get(design.unit, ("enabled", "active"))
        return (
            any(self._differing(files) for files in design.file_sets)
            or self.loaded(design) != design.loaded
            or enabled != "enabled"
            or (active != "active" and not design.started_later)
        )

    def remember(self, design: ComponentDesign) -> None:
        """It is loaded by other means than its own load command."""
        self._loaded.append(design)

    async def _load(self, design: ComponentDesign, load: Load) -> None:
        self._loaded.append(design)
        # The marker is written last: a death before it makes the next apply load again. No `&&`: under set -e a
        # failure in the middle of such a list would pass unnoticed.
        marker = "" if self.gated else _marker(design)
        await self.sh(f"set -e\n{load.command}\n{marker}", shown_as=load.sentence)

    async def gate(self, check: Callable[[], Awaitable[None]]) -> None:
        """After the change: it is kept if the check passes, else the previous files are put back and loaded.

        Raises what the check raised, and what was done about it.
        """
        try:
            await check()
        except (Unreachable, LockLost):
            raise
        except HaplaneError as error:
            await self.roll_back()
            raise undone(error) from None
        await self.confirm()

    async def confirm(self) -> None:
        """The gate has passed: remember what was loaded."""
        if self._loaded:
            markers = "\n".join(_marker(design) for design in self._loaded)
            await self.sh(f"set -e\n{markers}", shown_as="remember what was loaded")

    async def roll_back(self) -> None:
        """Put back what the files were that this change wrote, and load them."""
        paths = " ".join(shlex.quote(file.path) for file in self._written)
        back = f"""set -e
for path in {paths or "''"}; do
  if [ -n "$path" ] && [ -f "{STATE}/previous$path" ]; then
    cp -p "{STATE}/previous$path" "${{path%/*}}/.haplane-back"
    mv -f "${{path%/*}}/.haplane-back" "$path"
    sum=$(sha256sum < "$path")
    echo "${{sum%% *}}" > "{WRITTEN}$path"
  fi
done
"""
        await self.sh(back, shown_as="put the previous files back")
        for design in self._loaded:
            await self.sh(
                f"set -e\nrm -f {LOADED}/{design.name}\n{(design.restart or design.load).command}",
                shown_as=f"load the previous files of {design.name}",
            )

    async def job(
        self, name: str, script: str, *, shown_as: str = "", stdin: bytes | None = None, secret_file: str = ""
    ) -> str:
        """Run a long script as a unit of the machine's own, so that it ends well even if haplane does not.

        If a job of this name is running already (begun by a haplane that died), it is waited for instead. stdin is
        put into secret_file (in /run, mode 0600), which the script should remove. Returns the output.
        """
        unit = f"haplane-job-{name}"
        folder = f"{RUN}/jobs"
        put = f"(umask 077; cat > {secret_file})" if secret_file else "cat > /dev/null"
        start = f"""
mkdir -p {folder} && cd {folder} || exit
if ! systemctl is-active --quiet {unit}; then
  rm -f {name}.code
  {put}
  systemctl reset-failed {unit} 2>/dev/null
  cat > {name}.sh <<'HAPLANE_END_OF_JOB'
{script}
HAPLANE_END_OF_JOB
  systemd-run --quiet --collect --unit={unit} --working-directory={folder} /bin/sh -c \
    '/bin/sh -e {name}.sh > {name}.log 2>&1; code=$?; echo $code > {name}.code; exit $code' || exit
fi
while systemctl is-active --quiet {unit}; do sleep 0.1; done
[ -s {name}.code ] || {{ echo 'the job was ended from outside' >&2; exit 1; }}
code=$(cat {name}.code)
if [ "$code" = 0 ]; then cat {name}.log; else tail -n 25 {name}.log >&2; fi
exit "$code"
"""
        done = await self.sh(start, shown_as=shown_as or name, stdin=stdin, timeout_s=JOB_TIMEOUT_S)
        return done.stdout

    def _differing(self, files: FileSet) -> list[File]:
        def is_there(file: File) -> bool:
            found = self.facts.files.get(file.path)
            return found is not None and (found.sha256, found.mode) == (file.sha256, f"{file.mode:o}")

        return [file for file in files.files if not is_there(file)]

    def _named(self, file: File) -> str:
        """Its path, and who wrote it if that was not haplane: what is lost is said before."""
        found = self.facts.files.get(file.path)
        if found is None or not found.is_foreign:
            return file.path
        since = "changed since haplane wrote it" if found.written else "not written by haplane"
        return f"{file.path} ({since}: {found.changed})"

    async def _diff(self, files: FileSet) -> str:
        parts = []
        for file in files.files:
            if file.path in self.facts.files and self.facts.files[file.path].sha256 == file.sha256:
                continue
            before = ""
            if file.path in self.facts.files:
                before = _masked((await self.remote.run(f"cat {shlex.quote(file.path)}", check=False)).stdout)
            lines = difflib.unified_diff(
                before.splitlines(keepends=True),
                file.content.splitlines(keepends=True),
                fromfile=f"{self.machine}:{file.path}" if before else "/dev/null",
                tofile=f"{self.machine}:{file.path}",
            )
            parts.append("".join(lines))
        return "".join(parts)

    async def _install(self, design: ComponentDesign, files: FileSet) -> None:
        """Stage, check what arrived, validate with the component's own validator, then rename each into place."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for file in files.files:
                content = file.content.encode()
                member = tarfile.TarInfo("." + file.path)
                member.size, member.mode = len(content), file.mode
                tar.addfile(member, io.BytesIO(content))
        staging = f"{STATE}/staging/{design.name}"
        sums = "".join(f"{file.sha256}  .{file.path}\n" for file in files.files)
        differing = self._differing(files)
        paths = "".join(f"{file.path}\n" for file in differing)
        # Temporary names begin with a dot and lack the suffix: kubelet and containerd read every other file.
        script = f"""
set -e
rm -rf {staging}
mkdir -p {staging}
cd {staging}
tar -x --no-same-owner
sha256sum --check --quiet <<'HAPLANE_SUMS'
{sums}HAPLANE_SUMS
{files.validate + " > .validation 2>&1 || { cat .validation >&2; exit 1; }" if files.validate else ""}
cat > .swap <<'HAPLANE_PATHS'
{paths}HAPLANE_PATHS
while read -r path; do
  folder=${{path%/*}}
  mkdir -p "$folder" "{STATE}/previous$folder"
  rm -f "{STATE}/previous$path"
  if [ -f "$path" ]; then cp -p "$path" "{STATE}/previous$path"; fi
  new="$folder/.${{path##*/}}.haplane"
  cp -p ".$path" "$new"
  chown 0:0 "$new"
  sync -f "$new"
done < .swap
# Everything that can fail is done; from here on the old files go.
while read -r path; do
  mv -f "${{path%/*}}/.${{path##*/}}.haplane" "$path" || exit {HALF_WRITTEN}
  mkdir -p "{WRITTEN}${{path%/*}}"
  sum=$(sha256sum < "$path")
  echo "${{sum%% *}}" > "{WRITTEN}$path"
done < .swap
rm -rf {staging}
"""
        shown = f"validate and write {', '.join(file.path for file in differing)}"
        try:
            await self.sh(script, shown_as=shown, stdin=archive.getvalue())
        except CommandFailed as error:
            if error.code == HALF_WRITTEN:
                self._written.extend(differing)
            raise
        self._written.extend(differing)


def undone(error: HaplaneError) -> HaplaneError:
    """What a user reads about a change that failed and was taken back."""
    return HaplaneError(
        f"{error.what}; its previous files were put back and nothing else was changed",
        where=error.where,
        why=error.why,
        hint=error.hint,
    )


def _marker(design: ComponentDesign) -> str:
    new, marker = f"{LOADED}/.{design.name}", f"{LOADED}/{design.name}"
    return f"mkdir -p {LOADED}\necho {design.loaded} > {new}\nmv {new} {marker}"


def _masked(text: str) -> str:
    """A configuration that somebody else wrote may hold passwords: a diff does not show them."""
    return re.sub(r"(?im)^(.*\b(?:auth_pass|stats auth|password|insecure-password)\s+).*$", r"\1********", text)
