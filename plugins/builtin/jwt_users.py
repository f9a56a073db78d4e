"""Plugin: lets in who brings a JSON Web Token of an identity provider. Needs the extra `jwt`.

The server verifies the signature with the provider's public keys, a JWKS file; it never asks the provider, so a token
is good until it expires. Algorithms are fixed by the settings, never by the token.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plugins.errors import BadPlugin
from plugins.hooks import Identity, hookimpl

NAME = "jwt_users"
SCOPE_CLAIM = "rpcserver_scopes"


class JwtUsers:
    """Verifies tokens.

    Args:
        keys: path of the provider's JWKS file.
        issuer, audience: what `iss` and `aud` must be; empty: not looked at.
        user_claim: the claim that holds the user's name here.
        may_make_users: a user there is none of yet is made.

    A claim `rpcserver_scopes`, a list of method names with `*`, narrows what the token reaches.
    """

    def __init__(
        self,
        keys: Path,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        user_claim: str,
        may_make_users: bool,
    ) -> None:
        from joserfc import errors, jwk, jwt

        try:
            self._keys = jwk.KeySet.import_key_set(json.loads(keys.read_text("utf-8")))
        except (OSError, ValueError, KeyError, errors.JoseError) as error:
            raise BadPlugin(NAME, f"{keys} holds no key set (JWKS): {error}") from error
        wanted: dict[str, Any] = {"exp": {"essential": True}, user_claim: {"essential": True}}
        if issuer:
            wanted["iss"] = {"essential": True, "value": issuer}
        if audience:
            wanted["aud"] = {"essential": True, "value": audience}
        self._registry = jwt.JWTClaimsRegistry(leeway=0, **wanted)
        self._decode = jwt.decode
        self._refused = (errors.JoseError, ValueError)
        self._algorithms = list(algorithms)
        self._user_claim = user_claim
        self._may_make_users = may_make_users

    @hookimpl
    def authenticate(self, credential: str) -> Identity | None:
        """Say whose a token is; None for one that is none, or does not verify."""
        if credential.count(".") != 2:
            return None
        try:
            claims = self._decode(credential, self._keys, algorithms=self._algorithms).claims
            self._registry.validate(claims)
        except self._refused:
            return None
        scopes = claims.get(SCOPE_CLAIM, ["*"])
        name = claims[self._user_claim]
        if not isinstance(name, str) or not isinstance(scopes, list) or not all(isinstance(s, str) for s in scopes):
            return None
        return Identity(name, tuple(scopes), int(claims["exp"]) * 1000, self._may_make_users, "json web token")
