"""A Debian system of its own below one folder, in which a proof carries out what a reader or an image builder does.

Nothing but root, debootstrap and Debian's mirror is needed; no container engine. Each command runs in mount and process
namespaces of its own: nothing stays mounted, and what a command leaves running ends with it. The network is this
machine's, so ports are shared with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

# Debian's slim images take apt, coreutils and little more; so does this variant.
_VARIANT: Final = "--variant=minbase"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
# How this machine reaches the package registries: its names, its certificates, its proxies.
_NETWORK_FILES: Final = (Path("/etc/resolv.conf"), Path("/etc/hosts"), _CERTIFICATES)
_NETWORK_SETTINGS: Final = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "UV_DEFAULT_INDEX"),
)
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# $1 is the root folder, $2 what stays writable, or "-" for all of it; the rest is chroot's. The mounts are seen by this
# command alone. The shell stays, as the first process of its namespace: the kernel forgets to end a process with its
# parent when that process changes its user.
_ENTER: Final = """
set -e
root=$1 writable=$2
shift 2
if [ "$writable" != - ]; then
    mount --bind "$root" "$root"
    for each in $writable; do mount --bind "$root$each" "$root$each"; done
    mount -o remount,bind,ro "$root"
fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
status=0
chroot "$@" || status=$?
exit $status
"""


def missing() -> str:
    """What keeps this machine from making a chroot, or ""."""
    if os.geteuid() != 0:
        return "only root may make a chroot"
    tools = [name for name in ("debootstrap", "unshare", "chroot") if shutil.which(name) is None]
    return f"{', '.join(tools)} not installed" if tools else ""


class Chroot:
    """The system below `root`. `run` waits for a command, `start` does not."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, inside: str) -> Path:
        """Where a file of the system lies on this machine."""
        return self.root / inside.lstrip("/")

    def start(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "0:0",
        writable: Sequence[str] | None = None,
        may_be_realtime: bool = False,
        output: IO[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command as `user` (uid:gid). What it prints goes to the file `output`, or where this process prints.

        `writable` names the folders that it may write to; None: all. It gets PATH, HOME, how this machine reaches the
        registries, and `env`: nothing else of the environment. A signal reaches `unshare` alone; SIGKILL ends all that
        the command has started. `may_be_realtime` gives the rights that an engine's --ulimit rtprio=40 --ulimit
        memlock=-1 would: this machine's root may be too weak to raise those limits.
        """
        network = {name: os.environ[name] for name in _NETWORK_SETTINGS if name in os.environ}
        settings = {"PATH": PATH, "HOME": "/root" if user.startswith("0:") else "/", "LANG": "C.UTF-8"}
        settings |= network | dict(env or {})
        entering = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
        rights = "+sys_nice,+ipc_lock" if may_be_realtime else "-all"
        who = ("--reuid={}", "--regid={}")
        acting = ("setpriv", *(each.format(number) for each, number in zip(who, user.split(":"), strict=True)))
        acting += ("--clear-groups", f"--inh-caps={rights}", f"--ambient-caps={rights}")
        chrooted = (str(self.root), *acting, "env", "--ignore-environment", f"--chdir={cwd}")
        given = (f"{name}={value}" for name, value in settings.items())
        kept = "-" if writable is None else " ".join(writable)
        return subprocess.Popen(
            (*entering, "sh", "-c", _ENTER, "sh", str(self.root), kept, *chrooted, *given, *command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            text=True,
        )

    def run(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "0:0",
        writable: Sequence[str] | None = None,
        may_be_realtime: bool = False,
        timeout_s: float = 280,
    ) -> str:
        """Carry out a command, and return what it printed. Raises RuntimeError with the output when it fails."""
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            # As container engines do: the command may open /dev/stdout.
            os.fchown(output.fileno(), *map(int, user.split(":")))
            process = self.start(
                *command,
                env=env,
                cwd=cwd,
                user=user,
                writable=writable,
                may_be_realtime=may_be_realtime,
                output=output,
            )
            try:
                status: int | None = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                process.kill()
                process.wait()
            output.seek(0)
            printed = output.read()
        if status != 0:
            ended = f"ended with status {status}" if status is not None else f"took more than {timeout_s:g} s"
            raise RuntimeError(f"{' '.join(command)} {ended}:\n{printed[-4_000:]}")
        return printed

    def copy_checkout(self, checkout: Path, to: str) -> None:
        """Copy the files that git knows in a checkout, as they are now, committed or not."""
        listed = subprocess.run(("git", "ls-files", "-z"), cwd=checkout, check=True, capture_output=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (source := checkout / name).is_symlink() or source.is_file():
                target = self.path(to) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target, follow_symlinks=False)


@contextmanager
def debian(root: Path, *, suite: str, packages: Sequence[str] = ()) -> Iterator[Chroot]:
    """A new Debian of `suite` with `packages` in the folder `root`, which is removed at the end."""
    included = ",".join(("ca-certificates", *packages))
    made = ("unshare", "--mount", "--propagation", "private", "debootstrap", _VARIANT, f"--include={included}", suite)
    try:
        # Without a mirror's address, debootstrap takes Debian's own.
        done = subprocess.run((*made, str(root), *_mirror()), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"debootstrap ended with status {done.returncode}:\n{done.stdout[-2_000:]}{done.stderr}")
        for name in _NETWORK_FILES:
            if name.exists():
                shutil.copy(name, root / name.relative_to("/"))
        yield Chroot(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _mirror() -> list[str]:
    """The address of Debian's main archive in apt's configuration; nothing when apt has none."""
    asked = ("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Component: main")
    try:
        listed = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    except FileNotFoundError:
        return []
    return [site for site in listed if site.rstrip("/").endswith("/debian")][:1]
