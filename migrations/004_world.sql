-- Groups of people, for permissions and rules. Written by core.groups.
CREATE TABLE user_groups (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    owner_id   TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL
);
CREATE INDEX user_groups_owner ON user_groups (owner_id);

-- Who is in a group; admins say who else is. Written by core.groups.
CREATE TABLE user_group_members (
    group_id TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
    user_id  TEXT NOT NULL REFERENCES users (id),
    is_admin INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX user_group_members_user ON user_group_members (user_id);

-- Kinds of token that users made, named `user.word`; plain words are the standard ones and have no row.
-- parents: JSON array in the order given; is_frozen: a token or child type of it was made. Written by core.types.
CREATE TABLE types (
    name              TEXT PRIMARY KEY,
    owner_id          TEXT NOT NULL REFERENCES users (id),
    parents           TEXT NOT NULL DEFAULT '[]',
    description       TEXT NOT NULL DEFAULT '',
    creators_group_id TEXT REFERENCES user_groups (id),
    is_human          INTEGER NOT NULL DEFAULT 1 CHECK (is_human IN (0, 1)),
    is_frozen         INTEGER NOT NULL DEFAULT 0 CHECK (is_frozen IN (0, 1)),
    is_retired        INTEGER NOT NULL DEFAULT 0 CHECK (is_retired IN (0, 1)),
    created_at        BIGINT NOT NULL
);
CREATE INDEX types_owner ON types (owner_id);
CREATE INDEX types_creators ON types (creators_group_id);

-- All a type is: itself at rank 0, then its ancestors, nearest first. Written by core.types.
CREATE TABLE type_ancestors (
    type     TEXT NOT NULL REFERENCES types (name),
    ancestor TEXT NOT NULL,
    rank     BIGINT NOT NULL,
    PRIMARY KEY (type, ancestor)
);
CREATE INDEX type_ancestors_ancestor ON type_ancestors (ancestor);

-- What tokens of a type carry. limits, default_value, read_needs, write_needs: JSON. Written by core.attributes.
CREATE TABLE attributes (
    id            TEXT PRIMARY KEY,
    type          TEXT NOT NULL REFERENCES types (name),
    name          TEXT NOT NULL,
    value_type    TEXT NOT NULL,
    limits        TEXT NOT NULL DEFAULT '{}',
    default_value TEXT,
    read_needs    TEXT,
    write_needs   TEXT,
    is_human      INTEGER NOT NULL DEFAULT 1 CHECK (is_human IN (0, 1)),
    created_at    BIGINT NOT NULL,
    UNIQUE (type, name)
);

-- Which groups read or write an attribute; none to read: everybody. Written by core.attributes.
CREATE TABLE attribute_groups (
    attribute_id TEXT NOT NULL REFERENCES attributes (id),
    access       TEXT NOT NULL CHECK (access IN ('read', 'write')),
    group_id     TEXT NOT NULL REFERENCES user_groups (id),
    PRIMARY KEY (attribute_id, access, group_id)
);
CREATE INDEX attribute_groups_group ON attribute_groups (group_id);

-- What a token's attribute holds in one set, or (set_id '') that it is turned off everywhere; its value everywhere
-- stands in tokens.attributes. value: JSON. Written by core.live.
CREATE TABLE live_values (
    token_id   TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    attribute  TEXT NOT NULL,
    set_id     TEXT NOT NULL DEFAULT '',
    value      TEXT,
    is_on      INTEGER NOT NULL DEFAULT 1 CHECK (is_on IN (0, 1)),
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, attribute, set_id)
);
CREATE INDEX live_values_set ON live_values (set_id) WHERE set_id <> '';

CREATE INDEX members_gifts ON members (set_id) WHERE kind = 'gift';

-- The members that are commands, so that a pallet is found without looking through a set. Written by core.members.
CREATE TABLE commands (
    set_id   TEXT NOT NULL,
    token_id TEXT NOT NULL,
    PRIMARY KEY (set_id, token_id),
    FOREIGN KEY (set_id, token_id) REFERENCES members (set_id, token_id) ON DELETE CASCADE
);
CREATE INDEX commands_token ON commands (token_id);

-- What a script or remote answered last, for whom (user_id '' for all). value: JSON. Written by core.known.
CREATE TABLE known_values (
    token_id   TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    attribute  TEXT NOT NULL,
    user_id    TEXT NOT NULL DEFAULT '',
    value      TEXT NOT NULL,
    known_at   BIGINT NOT NULL,
    PRIMARY KEY (token_id, attribute, user_id)
);

-- Programs behind attributes and rules. initial_state, state: JSON objects. Written by core.scripts.
CREATE TABLE scripts (
    id            TEXT PRIMARY KEY,
    owner_id      TEXT NOT NULL REFERENCES users (id),
    name          TEXT NOT NULL,
    text          TEXT NOT NULL,
    is_on         INTEGER NOT NULL DEFAULT 1 CHECK (is_on IN (0, 1)),
    is_shared     INTEGER NOT NULL DEFAULT 0 CHECK (is_shared IN (0, 1)),
    initial_state TEXT NOT NULL DEFAULT '{}',
    state         TEXT NOT NULL DEFAULT '{}',
    created_at    BIGINT NOT NULL,
    UNIQUE (owner_id, name)
);

-- What a script remembers for one token. state: JSON object. Written by core.scripts.
CREATE TABLE script_states (
    token_id  TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    script_id TEXT NOT NULL REFERENCES scripts (id) ON DELETE CASCADE,
    state     TEXT NOT NULL,
    PRIMARY KEY (token_id, script_id)
);
CREATE INDEX script_states_script ON script_states (script_id);

-- Calls to the outside behind attributes and rules; kind 'manual' asks a person. definition: JSON.
-- Written by core.remotes.
CREATE TABLE remotes (
    id         TEXT PRIMARY KEY,
    owner_id   TEXT NOT NULL REFERENCES users (id),
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('url', 'manual')),
    definition TEXT NOT NULL,
    is_on      INTEGER NOT NULL DEFAULT 1 CHECK (is_on IN (0, 1)),
    is_shared  INTEGER NOT NULL DEFAULT 0 CHECK (is_shared IN (0, 1)),
    created_at BIGINT NOT NULL,
    UNIQUE (owner_id, name)
);

-- Every call of a remote. question: JSON, of a manual remote alone and only until it is answered; what is sent to and
-- comes from the outside is never kept. attribute: what the answer belongs to. Written by core.activity.
CREATE TABLE remote_activity (
    id          TEXT PRIMARY KEY,
    remote_id   TEXT NOT NULL REFERENCES remotes (id) ON DELETE CASCADE,
    token_id    TEXT,
    attribute   TEXT,
    caller_id   TEXT NOT NULL,
    answerer_id TEXT,
    state       TEXT NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'cached', 'expired')),
    code        INTEGER,
    duration_ms BIGINT,
    question    TEXT,
    expires_at  BIGINT,
    created_at  BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX remote_activity_remote ON remote_activity (remote_id, id);
CREATE INDEX remote_activity_answerer ON remote_activity (answerer_id, id) WHERE state = 'pending';

-- What decides whether something may happen, on one token or on every token of a type. decision: JSON.
-- Written by core.rules.
CREATE TABLE rules (
    id         TEXT PRIMARY KEY,
    owner_id   TEXT NOT NULL REFERENCES users (id),
    token_id   TEXT REFERENCES tokens (id) ON DELETE CASCADE,
    type       TEXT REFERENCES types (name),
    event      TEXT NOT NULL,
    name       TEXT NOT NULL,
    decision   TEXT NOT NULL,
    message    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK ((token_id IS NULL) <> (type IS NULL))
);
CREATE INDEX rules_token ON rules (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX rules_type ON rules (type) WHERE type IS NOT NULL;
CREATE INDEX rules_owner ON rules (owner_id);

-- What a set gives whoever enters it, until he leaves. attributes: JSON. Written by core.gifts.
CREATE TABLE gifts (
    id         TEXT PRIMARY KEY,
    set_id     TEXT NOT NULL REFERENCES sets (id) ON DELETE CASCADE,
    type       TEXT NOT NULL,
    name       TEXT NOT NULL,
    attributes TEXT NOT NULL DEFAULT '{}',
    access     TEXT NOT NULL DEFAULT 'read' CHECK (access IN ('read', 'write')),
    created_at BIGINT NOT NULL
);
CREATE INDEX gifts_set ON gifts (set_id);

-- Which sets a session has been in, however its history was trimmed. Written by core.presence.
CREATE TABLE visits (
    session_id TEXT NOT NULL,
    set_id     TEXT NOT NULL,
    PRIMARY KEY (session_id, set_id)
);

-- What whoever made a credential wrote on it. pass_through: JSON. Written by rpcserver.bearers.
CREATE TABLE credential_notes (
    credential_id TEXT PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
    pass_through  TEXT NOT NULL
);

INSERT INTO commands (set_id, token_id)
SELECT m.set_id, m.token_id FROM members m JOIN tokens t ON t.id = m.token_id WHERE t.type = 'command';
