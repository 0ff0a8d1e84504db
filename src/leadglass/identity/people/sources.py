"""The providers and directories of the site file, opened when somebody asks for one, and again when the file or what it refers to has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from leadglass.site.factors import Factors
from leadglass.site.model import DirectorySettings, ProviderSettings
from leadglass.terms import NotIdentified

if TYPE_CHECKING:
    from leadglass.identity.people.directory import Directory
    from leadglass.identity.people.oidc import Provider

RETURN_PATH = "/sign-in/"  # and the provider's name: where it sends people back to, registered there


class Sited(Protocol):
    """Of a site, who else vouches for people."""

    @property
    def providers(self) -> Mapping[str, ProviderSettings]: ...
    @property
    def directories(self) -> Mapping[str, DirectorySettings]: ...


@dataclass(frozen=True, slots=True)
class Way:
    """One way in besides our own. `label`: as people here call it."""

    name: str
    label: str


class Sources:
    """Thread-safe. `site()`: what holds now; `key`: 32 bytes that every process of the site derives alike."""

    def __init__(self, site: Callable[[], Sited], site_dir: Path, key: bytes, factors: Factors) -> None:
        self._site, self._site_dir, self._key, self._factors = site, site_dir, key, factors
        self._lock = threading.Lock()
        self._providers: dict[tuple[str, str], tuple[object, Provider]] = {}
        self._directories: dict[str, tuple[object, Directory]] = {}

    def providers(self) -> list[Way]:
        return [Way(name, each.label) for name, each in self._site().providers.items()]

    def directories(self) -> list[Way]:
        return [Way(name, each.label) for name, each in self._site().directories.items()]

    def provider(self, name: str, origin: str) -> Provider:
        """For people who come and go at this address of ours, `https://HOST[:PORT]`. Raises NotIdentified where there is none, KeyFault."""
        from leadglass.identity.people.oidc import (
            Provider,  # with its HTTP client, where somebody asks for one: a tenth of a second
        )

        settings = self._site().providers.get(name)
        if settings is None:
            raise NotIdentified(f"the site file has no provider {name[:64]!r}")
        state = (settings, self._when(settings.client_secret), self._when(settings.authority))
        with self._lock:
            opened = self._providers.get((name, origin))
            if opened is None or opened[0] != state:
                returns = f"{origin}{RETURN_PATH}{name}"
                made = Provider.open(settings, self._site_dir, returns, self._key, self._factors)
                opened = self._providers[(name, origin)] = (state, made)
            return opened[1]

    def directory(self, name: str) -> Directory:
        """Raises NotIdentified where there is none, KeyFault."""
        from leadglass.identity.people.directory import Directory

        settings = self._site().directories.get(name)
        if settings is None:
            raise NotIdentified(f"the site file has no directory {name[:64]!r}")
        state = (settings, self._when(settings.password), self._when(settings.authority))
        with self._lock:
            opened = self._directories.get(name)
            if opened is None or opened[0] != state:
                opened = self._directories[name] = (state, Directory.open(settings, self._site_dir))
            return opened[1]

    def _when(self, reference: str) -> int:
        """When a file that the settings refer to was last written, Unix nanoseconds; 0 for none, and for a credential, which lasts as long as we."""
        path = reference.removeprefix("file:").removeprefix("//")
        try:
            return (self._site_dir / path).stat().st_mtime_ns if path and not path.startswith("credential:") else 0
        except OSError:
            return 0
