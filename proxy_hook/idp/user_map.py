"""The setting idp.user_map: it maps a claim of the identity provider to the name of a Unix user. Runs in the hook."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import tomli

from proxy_hook.errors import forbidden, unavailable

log = logging.getLogger("punway.hook")


class UserMap:
    """The map of idp.user_map: the path of a TOML file, or a regular expression whose one group is the user's name."""

    def __init__(self, text: str) -> None:
        self._path = Path(text) if text.startswith("/") else None
        self._pattern = re.compile(text)
        self._read: tuple[int, dict[str, object]] = (0, {})

    def user_of(self, claim: object) -> str:
        """Return the user's name. Raises HttpError: 403 if the claim maps to no user, 503 if the file is unusable."""
        if isinstance(claim, str):
            if self._path:
                name = self._table(self._path).get(claim)
                if isinstance(name, str):
                    return name
            elif (match := self._pattern.fullmatch(claim)) and match[1]:
                return match[1]
        raise forbidden("Your identity does not belong to a user of this portal; ask the site's support")

    def _table(self, path: Path) -> dict[str, object]:
        """Return the content of the file, which is read again when it has changed."""
        try:
            changed = path.stat().st_mtime_ns
            if changed != self._read[0]:
                self._read = (changed, tomli.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            log.error("idp.user_map: cannot read %s: %s", path, error)
            raise unavailable("The portal cannot map identities to users at the moment; its log says why") from error
        return self._read[1]
