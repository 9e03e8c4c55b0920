"""What a client that meets a 401 can learn: where tokens for this portal come from (RFC 9728). Runs in the hook."""

from __future__ import annotations

import json

from proxy_hook.config import Config
from proxy_hook.errors import HttpError
from proxy_hook.web import WebAnswer
from tokens.scopes import OFFERED

METADATA = "/.well-known/oauth-protected-resource"
_RESOURCES = ("", "/api/v1", "/mcp")


class ResourceMetadata:
    """The document, where an identity provider's tokens are taken; otherwise there is none."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def challenge(self, resource: str = "") -> str:
        """What a 401's WWW-Authenticate says besides, for a resource of a path of its own."""
        return f', resource_metadata="{url}{resource}"' if (url := self._config.metadata_url) else ""

    def answer(self, path: str) -> WebAnswer:
        """The document of the resource whose path follows the well-known one. Raises HttpError (404)."""
        resource = path.removeprefix(METADATA)
        if not self._config.metadata_url or resource not in _RESOURCES:
            raise HttpError(404, "not_found", "This portal takes no tokens of an identity provider")
        document = {
            "resource": self._config.portal.public_url + resource,
            "resource_name": "Punway",
            "authorization_servers": [self._config.idp.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": list(OFFERED),
        }
        return WebAnswer(200, json.dumps(document), content_type="application/json")
