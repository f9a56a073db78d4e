-- Limited credentials, tickets, idempotency keys, and who listens to events.

-- What a credential is good for beyond scopes and expiry, and what was used of it; a plain one has no row.
-- renewal_ms: the life auth.refresh begins anew. Written by rpcserver.credentials.
CREATE TABLE credential_terms (
    credential_id     TEXT PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
    holder_id         TEXT REFERENCES users (id),
    is_metered        INTEGER NOT NULL DEFAULT 0 CHECK (is_metered IN (0, 1)),
    renewal_ms        BIGINT,
    max_calls         BIGINT,
    interval_calls    BIGINT,
    interval_ms       BIGINT,
    calls_made        BIGINT NOT NULL DEFAULT 0,
    calls_refused     BIGINT NOT NULL DEFAULT 0,
    interval_began_at BIGINT NOT NULL DEFAULT 0,
    interval_made     BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX credential_terms_holder ON credential_terms (holder_id);

-- What a limited credential was used for; outcome: 'ok', the kind of the error, or NULL while it runs.
-- Written by rpcserver.credentials.
CREATE TABLE credential_calls (
    id            TEXT PRIMARY KEY,
    credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    method        TEXT NOT NULL,
    outcome       TEXT,
    at            BIGINT NOT NULL
);
CREATE INDEX credential_calls_newest ON credential_calls (credential_id, id);

-- One-shot tickets, stored only as SHA-256; credential_id NULL: another system vouched for the user.
-- Written by rpcserver.tickets.
CREATE TABLE tickets (
    hash                 TEXT PRIMARY KEY,
    credential_id        TEXT REFERENCES credentials (id) ON DELETE CASCADE,
    user_id              TEXT NOT NULL REFERENCES users (id),
    label                TEXT NOT NULL,
    scopes               TEXT NOT NULL,
    principal_expires_at BIGINT,
    expires_at           BIGINT NOT NULL
);
CREATE INDEX tickets_credential ON tickets (credential_id);
CREATE INDEX tickets_user ON tickets (user_id);
CREATE INDEX tickets_expiry ON tickets (expires_at);

-- Calls made with an idempotency key, and their first answer; result and error NULL while the call runs.
-- owner_id: a user's id, or 'operator'. Written by rpcserver.idempotency.
CREATE TABLE idempotency_keys (
    owner_id   TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  TEXT NOT NULL,
    result     TEXT,
    error      TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_owner ON idempotency_keys (owner_id, created_at);

-- Users whose clients hold a position in the events: what is theirs is kept from the event after from_seq on.
-- Written by rpcserver.events.
CREATE TABLE listeners (
    user_id  TEXT PRIMARY KEY REFERENCES users (id),
    from_seq BIGINT NOT NULL,
    heard_at BIGINT NOT NULL
);
