"""Installs the system parts that tests need, where it may: root on Debian. `python -m tests.system_parts [--quick]`.

With --quick only what `make test` needs: no telephones and no Asterisk.

Elsewhere it says in one line what is missing, and just those tests skip, visibly (with CI=true a skip is a failure).
Everything comes from the package manager that the machine already uses. Takes a moment when nothing is missing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = {
    "chromium": "chromium",
    "firefox-esr": "firefox-esr",
    "sipp": "sip-tester",
    "debootstrap": "debootstrap",
    "setpriv": "util-linux",
    "systemd-analyze": "systemd",
}
"""Command -> Debian package. PostgreSQL and fonts are looked for by their files."""
LONG_ONLY = {"firefox-esr", "sip-tester", "debootstrap"}
"""Packages that only `make test-all` needs."""
LAB = Path(__file__).parent / "lab"
LAB_DONE = Path(os.environ.get("ASTERISK_ROOT", "/opt/asterisk-root"), ".lab-asterisk-done")


def missing_packages() -> list[str]:
    """Debian packages whose parts are not here."""
    found = [package for command, package in PACKAGES.items() if shutil.which(command) is None]
    if not list(Path("/usr/lib/postgresql").glob("1[5-9]/bin/postgres")):
        found.append("postgresql-15")
    if not any(Path("/usr/share/fonts/truetype").glob("*")):
        found.append("fonts-dejavu-core")
    return found


def may_install() -> bool:
    """Root on a Debian."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _run(command: list[str], log: Path) -> bool:
    with log.open("ab") as out:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, check=False)
    return done.returncode == 0


def _install(packages: list[str], log: Path) -> bool:
    # A machine without a database keeps none: only the server's programs are wanted, not a cluster.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = "postgresql-15" in packages and not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        return _run(["apt-get", "update"], log) and _run(
            ["apt-get", "install", "-y", "--no-install-recommends", *packages], log
        )
    finally:
        if ours:
            policy.unlink()


def main(*, quick: bool = False) -> int:
    """Installs or says what is missing. A failed installation is told with the end of its log and is no error here:
    the tests that need the part say so themselves."""
    packages = [package for package in missing_packages() if not (quick and package in LONG_ONLY)]
    lab = not quick and LAB.exists() and not LAB_DONE.exists()
    if not packages and not lab:
        return 0
    if not may_install():
        parts = [*packages, *(["the Asterisk lab"] if lab else [])]
        print(f"missing, so their tests skip: {', '.join(parts)} (root on Debian would install them)")
        return 0
    log = Path(tempfile.gettempdir(), "gateway-system-parts.log")
    log.write_bytes(b"")
    print(f"installing system parts: {', '.join([*packages, *(['Asterisk lab'] if lab else [])])}", flush=True)
    done = (not packages or _install(packages, log)) and (not lab or _run([str(LAB / "install")], log))
    if not done:
        print("could not install everything:", *log.read_text("utf-8", "replace").splitlines()[-15:], sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main(quick=sys.argv[1:] == ["--quick"]))
