"""The commit of a checkout: from git or, without git, from the file that the build wrote."""

import os
import subprocess

from .products import COMMIT, ROOT


def git(*arguments):
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def head():
    """The commit of the files as they are; None without git."""
    top = git("rev-parse", "--show-toplevel")
    # The checkout may have no history and lie inside another project's repository.
    if top is None or os.path.realpath(top) != ROOT:
        return None
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    # A report that was just written is no change of the code that it reports on.
    changes = git("status", "--porcelain", "--", ".", ":!docs/gpu")
    return commit if changes == "" else f"{commit} and changes that are not committed"


def built_commit():
    if not os.path.exists(COMMIT):
        return None
    with open(COMMIT, encoding="utf-8") as file:
        return file.read().strip()


def commit():
    """The commit as a report states it."""
    now, built = head(), built_commit()
    if now is None:
        return built or "unknown: there is no git and no build/commit"
    return now if built in (None, now) else f"{now}; built from {built}"
