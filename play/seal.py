"""Sealing values with a secret: AES-256-GCM with a random nonce, the key derived with scrypt. Touches no file."""

import os
from dataclasses import dataclass
from typing import Any

from play.errors import BadSecret, SealingUnavailable

_MIN_SECRET = 4
_SALT_BYTES = 16
_NONCE_BYTES = 12
_CHECK = b"the secret of this store"


@dataclass(frozen=True, slots=True, repr=False)
class Seal:
    """Seals and opens values; the name of a value is sealed with it, so none can be put in another's place."""

    _cipher: Any
    salt: bytes

    @classmethod
    def make(cls, secret: str, salt: bytes | None = None) -> "Seal":
        """Derive the key of a store from its secret.

        Args:
            salt: of the store; None makes a new one.

        Raises:
            BadSecret: the secret has fewer than 4 characters.
            SealingUnavailable: the optional dependency is missing.

        Source: heroscript specification, section 11.
        """
        if len(secret) < _MIN_SECRET:
            raise BadSecret(f"the secret of a store has at least {_MIN_SECRET} characters")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
        except ImportError:
            raise SealingUnavailable from None
        used = os.urandom(_SALT_BYTES) if salt is None else salt
        key = Scrypt(salt=used, length=32, n=2**15, r=8, p=1).derive(secret.encode("utf-8", "surrogatepass"))
        return cls(AESGCM(key), used)

    def seal(self, name: str, value: bytes) -> bytes:
        """Give the nonce and the sealed value."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._cipher.encrypt(nonce, value, name.encode())
        return nonce + sealed

    def open(self, name: str, sealed: bytes) -> bytes:
        """Give the value back.

        Raises:
            BadSecret: another secret or another name sealed it, or it was changed.
        """
        from cryptography.exceptions import InvalidTag

        try:
            value: bytes = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise BadSecret("the value was not sealed with this secret, or was changed") from None
        return value

    def proof(self) -> bytes:
        """Give what a store keeps to recognise its secret."""
        return self.seal("", _CHECK)

    def check(self, proof: bytes) -> None:
        """Require that the same secret made `proof`.

        Raises:
            BadSecret
        """
        self.open("", proof)
