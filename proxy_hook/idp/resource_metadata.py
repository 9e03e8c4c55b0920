"""The portal's protected resource metadata (RFC 9728): it tells clients which identity provider issues tokens.

Runs in the hook. A 401 refers to it in WWW-Authenticate.
"""

from __future__ import annotations

import json

from proxy_hook.config import Config
from proxy_hook.errors import HttpError
from proxy_hook.web import WebResponse
from tokens.scopes import OFFERED

METADATA_PATH = "/.well-known/oauth-protected-resource"
_RESOURCES = ("", "/api/v1", "/mcp")


class ResourceMetadata:
    """The metadata documents. There are none if the portal accepts no tokens of an identity provider."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def challenge(self, resource: str = "") -> str:
        """Return what to append to the challenge of a 401: a reference to the metadata of ``resource``, or nothing.

        ``resource`` is a path such as ``/mcp``, or empty for the portal as a whole.
        """
        return f', resource_metadata="{url}{resource}"' if (url := self._config.metadata_url) else ""

    def respond(self, path: str) -> WebResponse:
        """Return the metadata of the resource whose path follows METADATA_PATH. Raises HttpError (404)."""
        resource = path.removeprefix(METADATA_PATH)
        if not self._config.metadata_url or resource not in _RESOURCES:
            raise HttpError(404, "not_found", "This portal accepts no tokens of an identity provider at this address")
        document = {
            "resource": self._config.portal.public_url + resource,
            "resource_name": "Punway",
            "authorization_servers": [self._config.idp.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": list(OFFERED),
        }
        return WebResponse(200, json.dumps(document), content_type="application/json")
