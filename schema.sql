-- Every table, once: the truth about the shape of the data. Its version is store.migrate.SCHEMA_VERSION.
-- Dialect: what SQLite and PostgreSQL share. Times are UTC milliseconds, booleans 0/1, JSON is text.
-- A time said to be steady is on the scale that nobody sets: the end or beginning of a duration (store.clock).
-- Ids are opaque text, sortable by age. Each table is written by the modules named in its comment alone.

-- Server-wide values: the key that signs cursors, made once; what the clocks said. Written by rpcserver.instance.
CREATE TABLE server_values (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- A thing: the only kind of row whose ownership can change. Written by core.tokens, and by core.tree
-- for an import.
-- attributes: JSON object, attribute name -> value. sort: the name as listings order it.
CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,
    type       TEXT NOT NULL,
    owner_id   TEXT NOT NULL,
    name       TEXT NOT NULL,
    attributes TEXT NOT NULL DEFAULT '{}',
    is_public  INTEGER NOT NULL DEFAULT 1 CHECK (is_public IN (0, 1)),
    is_human   INTEGER NOT NULL DEFAULT 1 CHECK (is_human IN (0, 1)),
    revision   INTEGER NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL
);
CREATE INDEX tokens_owner ON tokens (owner_id);
-- Those with a script or remote behind an attribute: few, and looked for when one is to be deleted.
CREATE INDEX tokens_sources ON tokens (owner_id)
    WHERE instr(attributes, '"script"') > 0 OR instr(attributes, '"remote"') > 0;

-- How much each user keeps: tokens, and the bytes of their names and values. Written by core.quota.
CREATE TABLE usage (
    user_id     TEXT PRIMARY KEY,
    tokens      BIGINT NOT NULL,
    token_bytes BIGINT NOT NULL
);

-- A person or program known to the core. group_id: his own group, whose people read what is private of his and whose
-- admins write it. Written by core.users.
CREATE TABLE users (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    token_id    TEXT NOT NULL UNIQUE REFERENCES tokens (id),
    group_id    TEXT NOT NULL UNIQUE,
    home_set_id TEXT NOT NULL,
    is_frozen   INTEGER NOT NULL DEFAULT 0 CHECK (is_frozen IN (0, 1)),
    created_at  BIGINT NOT NULL
);

-- A place, defined by exactly one token. Written by core.sets, by core.members (next_rank) and by core.tree for an import.
-- enter_policy 'rule' is reserved for places that decide by rules of their own.
CREATE TABLE sets (
    id           TEXT PRIMARY KEY,
    token_id     TEXT NOT NULL UNIQUE REFERENCES tokens (id),
    parent_id    TEXT REFERENCES sets (id),
    enter_policy TEXT NOT NULL DEFAULT 'readers' CHECK (enter_policy IN ('readers', 'members', 'owner', 'rule')),
    next_rank    BIGINT NOT NULL DEFAULT 1,
    created_at   BIGINT NOT NULL
);
CREATE INDEX sets_parent ON sets (parent_id);

-- Who beyond the owner may read or write a token (and, for a defining token, its set). Written by core.access,
-- and by core.tokens when a token goes.
CREATE TABLE grants (
    token_id TEXT NOT NULL REFERENCES tokens (id),
    user_id  TEXT NOT NULL REFERENCES users (id),
    access   TEXT NOT NULL CHECK (access IN ('read', 'write')),
    PRIMARY KEY (token_id, user_id)
);
CREATE INDEX grants_user ON grants (user_id);

-- Which token stands in which set, and as what. Written by core.members, by core.presence (visitors),
-- by core.tokens (its end) and by core.tree for an import.
-- sort repeats the token's, so that one index serves a listing; rank is the order of arrival, unique per set.
CREATE TABLE members (
    set_id     TEXT NOT NULL REFERENCES sets (id),
    token_id   TEXT NOT NULL REFERENCES tokens (id),
    kind       TEXT NOT NULL CHECK (kind IN ('member', 'child', 'link', 'visitor', 'gift')),
    sort       TEXT NOT NULL,
    rank       BIGINT NOT NULL,
    is_sticky  INTEGER NOT NULL DEFAULT 0 CHECK (is_sticky IN (0, 1)),
    session_id TEXT,
    PRIMARY KEY (set_id, token_id)
);
CREATE INDEX members_listing ON members (set_id, sort, token_id);
CREATE UNIQUE INDEX members_rank ON members (set_id, rank);
CREATE INDEX members_token ON members (token_id);
CREATE INDEX members_links ON members (set_id) WHERE kind = 'link';

-- In which set each session stands: a visitor stays a member while one session of the user is there.
-- Written by core.presence, and by core.members when a set goes.
CREATE TABLE presence (
    session_id TEXT PRIMARY KEY,
    set_id     TEXT NOT NULL REFERENCES sets (id),
    token_id   TEXT NOT NULL REFERENCES tokens (id)
);
CREATE INDEX presence_place ON presence (set_id, token_id);
CREATE INDEX presence_token ON presence (token_id);

-- Credentials, stored only as SHA-256. made_by: the narrow credential that made it, with which it goes. is_over: it has
-- expired, and what it brought was taken back. is_lent: to a command of the operator's. Written by rpcserver.auth.authenticator and
-- rpcserver.auth.credentials.
CREATE TABLE credentials (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id),
    hash       TEXT NOT NULL UNIQUE,
    label      TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    made_by    TEXT,
    is_over    INTEGER NOT NULL DEFAULT 0 CHECK (is_over IN (0, 1)),
    is_lent    INTEGER NOT NULL DEFAULT 0 CHECK (is_lent IN (0, 1))
);
CREATE INDEX credentials_user ON credentials (user_id);
CREATE INDEX credentials_expiry ON credentials (is_over, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX credentials_made_by ON credentials (made_by) WHERE made_by IS NOT NULL;

-- A user's shells. params_by: as authority of jobs, of who set the params; an action with one of them in it is theirs, too.
-- Written by rpcserver.sessions.rows.
CREATE TABLE sessions (
    id              TEXT PRIMARY KEY,
    core_user_id    TEXT NOT NULL REFERENCES users (id),
    layer_user_id   TEXT NOT NULL,
    context_name    TEXT NOT NULL,
    name            TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('creating', 'active', 'destroying', 'failed')),
    is_default      INTEGER NOT NULL DEFAULT 0 CHECK (is_default IN (0, 1)),
    working_set_id  TEXT,
    pallet_set_id   TEXT,
    data_set_id     TEXT,
    is_interactive  INTEGER NOT NULL DEFAULT 1 CHECK (is_interactive IN (0, 1)),
    params          TEXT NOT NULL DEFAULT '{}',
    params_by       TEXT NOT NULL DEFAULT '[]',
    options         TEXT NOT NULL DEFAULT '{}',
    coderoot        TEXT,
    start_at        BIGINT NOT NULL,
    end_at          BIGINT,
    relocated_from  TEXT,
    revision        INTEGER NOT NULL DEFAULT 1,
    created_at      BIGINT NOT NULL,
    last_used_at    BIGINT NOT NULL,
    UNIQUE (core_user_id, context_name, name)
);
CREATE UNIQUE INDEX sessions_default ON sessions (core_user_id) WHERE is_default = 1;
CREATE INDEX sessions_working_set ON sessions (working_set_id);
CREATE INDEX sessions_end ON sessions (end_at) WHERE end_at IS NOT NULL;
CREATE INDEX sessions_half_made ON sessions (state) WHERE state IN ('creating', 'destroying');

-- Where a session has been ('back') and can go again ('forward'); position grows. Written by rpcserver.sessions.rows.
CREATE TABLE session_history (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    direction  TEXT NOT NULL CHECK (direction IN ('back', 'forward')),
    position   BIGINT NOT NULL,
    set_id     TEXT NOT NULL,
    PRIMARY KEY (session_id, direction, position)
);

-- What a user's sessions share. Written by rpcserver.sessions.contexts.
-- number: 0, 1, ... for each user. params: JSON object. params_by: as of sessions.
CREATE TABLE contexts (
    user_id        TEXT NOT NULL REFERENCES users (id),
    name           TEXT NOT NULL,
    number         INTEGER NOT NULL,
    coderoot       TEXT,
    params         TEXT NOT NULL DEFAULT '{}',
    params_by      TEXT NOT NULL DEFAULT '[]',
    is_interactive INTEGER NOT NULL DEFAULT 1 CHECK (is_interactive IN (0, 1)),
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (user_id, name)
);

-- How much of each session's playbook there is, in actions and bytes. Rows of playbook_actions beyond that number are
-- being added, or were left when that was stopped: they do not count. Written by rpcserver.playbooks.rows.
CREATE TABLE playbooks (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id),
    actions    BIGINT NOT NULL,
    bytes      BIGINT NOT NULL
);

-- The playbook of each session: one row an action, in the order they were added. Written by rpcserver.playbooks.rows.
-- text: the action as heroscript, secrets as references. authority: as of jobs; withdrawn: a credential that brought it
-- has ended. result, error: JSON. job_id: the play that touched it last.
-- asked: the questions that play had put when the action ended, so that a play run again finds its answers.
CREATE TABLE playbook_actions (
    session_id  TEXT NOT NULL REFERENCES sessions (id),
    number      BIGINT NOT NULL,
    actor       TEXT NOT NULL,
    name        TEXT NOT NULL,
    text        TEXT NOT NULL,
    priority    INTEGER NOT NULL,
    file        TEXT NOT NULL,
    line        INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'withdrawn')),
    handled_by  TEXT,
    result      TEXT,
    error       TEXT,
    job_id      TEXT,
    asked       INTEGER NOT NULL DEFAULT 0,
    started_at  BIGINT,
    finished_at BIGINT,
    authority   TEXT NOT NULL,
    PRIMARY KEY (session_id, number)
);
CREATE INDEX playbook_actions_left ON playbook_actions (session_id, number) WHERE state NOT IN ('done', 'withdrawn');
CREATE INDEX playbook_actions_job ON playbook_actions (job_id) WHERE job_id IS NOT NULL;

-- Which filter has which priority in a session's playbook; position: the order in which they were registered.
-- Written by rpcserver.playbooks.rows.
CREATE TABLE playbook_priorities (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    filter     TEXT NOT NULL,
    number     INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (session_id, filter)
);

-- Words that stand for {NAME} in a session's scripts. authority: as of jobs, of who set it; an action with a word in it is
-- theirs, too. Written by rpcserver.playbooks.rows.
CREATE TABLE session_env (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    authority  TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (session_id, name)
);

-- Work: one row a job. Written by jobs.rows.
-- data, result, error, progress: JSON. attempt counts the starts, and fences: only the newest may end the job.
-- run_at: not before (delay, retry), steady. age_from: its end, steady. is_held: waits for somebody's approval.
-- retry_of: the ended job this one repeats. authority: JSON array of the credentials that brought it, an id each, or all
-- there is of one without a row; empty: the server itself. crashes: how often the server was killed while it ran.
CREATE TABLE jobs (
    id             TEXT PRIMARY KEY,
    function       TEXT NOT NULL,
    lane           TEXT NOT NULL CHECK (lane IN ('memory', 'local', 'long')),
    state          TEXT NOT NULL CHECK (state IN ('queued', 'running', 'waiting_input', 'succeeded', 'failed', 'cancelled', 'lost')),
    owner_id       TEXT NOT NULL,
    session_id     TEXT,
    parent_id      TEXT,
    retry_of       TEXT,
    priority       INTEGER NOT NULL DEFAULT 0,
    attempt        INTEGER NOT NULL DEFAULT 0,
    is_interactive INTEGER NOT NULL DEFAULT 1 CHECK (is_interactive IN (0, 1)),
    is_held        INTEGER NOT NULL DEFAULT 0 CHECK (is_held IN (0, 1)),
    is_cancelling  INTEGER NOT NULL DEFAULT 0 CHECK (is_cancelling IN (0, 1)),
    dedup_key      TEXT,
    data           TEXT NOT NULL,
    progress       TEXT,
    result         TEXT,
    error          TEXT,
    callback       TEXT,
    run_at         BIGINT,
    created_at     BIGINT NOT NULL,
    started_at     BIGINT,
    finished_at    BIGINT,
    age_from       BIGINT,
    authority      TEXT NOT NULL,
    crashes        INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_owner ON jobs (owner_id, id);
CREATE INDEX jobs_session ON jobs (session_id, id) WHERE session_id IS NOT NULL;
CREATE INDEX jobs_parent ON jobs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX jobs_live ON jobs (owner_id, id) WHERE state IN ('queued', 'running', 'waiting_input');
CREATE INDEX jobs_age ON jobs (state, age_from) WHERE age_from IS NOT NULL;
CREATE UNIQUE INDEX jobs_dedup ON jobs (owner_id, function, dedup_key)
    WHERE dedup_key IS NOT NULL AND state NOT IN ('failed', 'cancelled', 'lost');

-- What jobs said on their way, the newest lines of each. Written by jobs.rows.
CREATE TABLE job_lines (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    number BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
);

-- Whose jobs wait for whose approval. Written by jobs.rows.
CREATE TABLE deferrals (
    user_id     TEXT PRIMARY KEY REFERENCES users (id),
    approver_id TEXT NOT NULL REFERENCES users (id)
);
CREATE INDEX deferrals_approver ON deferrals (approver_id);

-- Questions of jobs to people. number: the job's first, second, ... question, so that a job run again after a crash
-- finds the answers it got. answer: JSON; a secret one is never stored. expires_at: steady. Written by jobs.asks.
CREATE TABLE asks (
    id          TEXT PRIMARY KEY,
    job_id      TEXT NOT NULL REFERENCES jobs (id),
    number      INTEGER NOT NULL,
    user_id     TEXT NOT NULL,
    session_id  TEXT,
    text        TEXT NOT NULL,
    form        TEXT NOT NULL,
    is_secret   INTEGER NOT NULL DEFAULT 0 CHECK (is_secret IN (0, 1)),
    state       TEXT NOT NULL CHECK (state IN ('open', 'answered', 'declined', 'expired', 'cancelled')),
    answer      TEXT,
    expires_at  BIGINT,
    created_at  BIGINT NOT NULL,
    resolved_at BIGINT
);
CREATE UNIQUE INDEX asks_number ON asks (job_id, number);
CREATE INDEX asks_open ON asks (user_id) WHERE state = 'open';

-- Who is to be told, outside, that a job has ended, and how that fares. secret: the name of one of the operator's.
-- next_at: steady. is_begun: it is being told. crashes: how often the server was killed then. Written by jobs.webhooks.
CREATE TABLE callbacks (
    job_id  TEXT PRIMARY KEY REFERENCES jobs (id),
    url     TEXT NOT NULL,
    secret  TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    tries   INTEGER NOT NULL,
    status  INTEGER,
    problem TEXT,
    next_at BIGINT,
    is_begun INTEGER NOT NULL DEFAULT 0 CHECK (is_begun IN (0, 1)),
    crashes  INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX callbacks_next ON callbacks (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX callbacks_begun ON callbacks (is_begun) WHERE is_begun = 1;

-- Jobs to come: at a time, at an interval, or by a cron line. next_at: of an interval steady.
-- authority: as of jobs. skipped, skipped_from: runs since the last one that were not submitted. crashes: kills in a row.
-- Written by jobs.schedules.
CREATE TABLE schedules (
    id             TEXT PRIMARY KEY,
    owner_id       TEXT NOT NULL REFERENCES users (id),
    session_id     TEXT,
    function       TEXT NOT NULL,
    data           TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('cron', 'interval', 'at')),
    spec           TEXT NOT NULL,
    is_catching_up INTEGER NOT NULL DEFAULT 0 CHECK (is_catching_up IN (0, 1)),
    next_at        BIGINT,
    last_at        BIGINT,
    last_job_id    TEXT,
    missed         BIGINT NOT NULL DEFAULT 0,
    created_at     BIGINT NOT NULL,
    authority      TEXT NOT NULL,
    skipped        INTEGER NOT NULL DEFAULT 0,
    skipped_from   BIGINT,
    crashes        INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX schedules_owner ON schedules (owner_id, id);
CREATE INDEX schedules_last_job ON schedules (last_job_id) WHERE last_job_id IS NOT NULL;
CREATE INDEX schedules_next ON schedules (kind, next_at) WHERE next_at IS NOT NULL;

-- What was announced, in order of commit; a row before it is a message. Written by rpcserver.events.log.
-- audience: 'user:ID' (that user) or 'set:ID' (whoever may read that set). age_from: at, steady.
CREATE TABLE events (
    seq      INTEGER PRIMARY KEY,
    topic    TEXT NOT NULL,
    audience TEXT NOT NULL,
    data     TEXT NOT NULL,
    at       BIGINT NOT NULL,
    age_from BIGINT NOT NULL
);
CREATE INDEX events_audience ON events (audience, seq);

-- The runs of servers that wrote these events, in order. epoch: by which clients name it. last_seq: the newest event when
-- the next run began, NULL for the newest run: a position beyond it was given by a run that is not in this history.
-- Written by rpcserver.events.log.
CREATE TABLE event_runs (
    number   INTEGER PRIMARY KEY,
    epoch    TEXT NOT NULL UNIQUE,
    last_seq BIGINT
);

-- What a credential is good for beyond scopes and expiry, and what was used of it; a plain one has no row.
-- renewal_ms: the life auth.refresh begins anew. interval_began_at: steady. Written by rpcserver.auth.credentials.
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
-- Written by rpcserver.auth.credentials.
CREATE TABLE credential_calls (
    id            TEXT PRIMARY KEY,
    credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    method        TEXT NOT NULL,
    outcome       TEXT,
    at            BIGINT NOT NULL
);
CREATE INDEX credential_calls_newest ON credential_calls (credential_id, id);

-- One-shot tickets, stored only as SHA-256; credential_id NULL: another system vouched for the user.
-- expires_at: steady. Written by rpcserver.auth.tickets.
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

-- Credentials and tickets that are over. forget_at: steady. Written by rpcserver.auth.ended.
CREATE TABLE former_secrets (
    hash      TEXT PRIMARY KEY,
    why       TEXT NOT NULL CHECK (why IN ('revoked', 'expired', 'used')),
    forget_at BIGINT NOT NULL
);
CREATE INDEX former_secrets_age ON former_secrets (forget_at);

-- Calls made with an idempotency key, and their first answer; result and error NULL while the call runs.
-- owner_id: a user's id, or 'operator'. age_from: steady. Written by rpcserver.rpc.idempotency.
CREATE TABLE idempotency_keys (
    owner_id   TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  TEXT NOT NULL,
    result     TEXT,
    error      TEXT,
    age_from   BIGINT NOT NULL,
    PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (age_from);
CREATE INDEX idempotency_keys_open ON idempotency_keys (owner_id) WHERE result IS NULL AND error IS NULL;
CREATE INDEX idempotency_keys_owner ON idempotency_keys (owner_id, age_from);

-- Users whose clients hold a position in the events: what is theirs is kept from the event after from_seq on.
-- heard_at: steady. Written by rpcserver.events.log.
CREATE TABLE listeners (
    user_id  TEXT PRIMARY KEY REFERENCES users (id),
    from_seq BIGINT NOT NULL,
    heard_at BIGINT NOT NULL
);
CREATE INDEX listeners_silent ON listeners (heard_at);

-- Groups of people, for permissions and rules; a user's own is named `@user`. Written by core.groups.
CREATE TABLE user_groups (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    owner_id   TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    UNIQUE (owner_id, name)
);

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

-- What tokens of a type carry. limits, default_value, read_needs, write_needs: JSON. parent_id: whose permissions
-- count, too. Written by core.types.
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
    parent_id     TEXT REFERENCES attributes (id),
    UNIQUE (type, name)
);
CREATE INDEX attributes_parent ON attributes (parent_id);

-- Which groups read or write an attribute; none to read: everybody. Written by core.types.
CREATE TABLE attribute_groups (
    attribute_id TEXT NOT NULL REFERENCES attributes (id),
    access       TEXT NOT NULL CHECK (access IN ('read', 'write')),
    group_id     TEXT NOT NULL REFERENCES user_groups (id),
    PRIMARY KEY (attribute_id, access, group_id)
);
CREATE INDEX attribute_groups_group ON attribute_groups (group_id);

-- What a token's attribute holds in one set, or (set_id '') that it is turned off everywhere; its value everywhere
-- stands in tokens.attributes. value: JSON. Written by core.attribute_values.
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

-- What a script or remote answered last, to whom. value: JSON. Written by core.attribute_values.
CREATE TABLE known_values (
    token_id   TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    attribute  TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    value      TEXT NOT NULL,
    known_at   BIGINT NOT NULL,
    PRIMARY KEY (token_id, attribute, user_id)
);

-- Programs behind attributes and rules. initial_state, state, extra_params: JSON objects. Written by core.scripts.
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
    is_retired    INTEGER NOT NULL DEFAULT 0 CHECK (is_retired IN (0, 1)),
    extra_params  TEXT NOT NULL DEFAULT '{}',
    cool_down_s   REAL NOT NULL DEFAULT 0,
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
-- group_id: who may use it besides its owner. Written by core.remotes.
CREATE TABLE remotes (
    id         TEXT PRIMARY KEY,
    owner_id   TEXT NOT NULL REFERENCES users (id),
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('url', 'manual')),
    definition TEXT NOT NULL,
    is_on      INTEGER NOT NULL DEFAULT 1 CHECK (is_on IN (0, 1)),
    is_shared  INTEGER NOT NULL DEFAULT 0 CHECK (is_shared IN (0, 1)),
    created_at BIGINT NOT NULL,
    is_retired INTEGER NOT NULL DEFAULT 0 CHECK (is_retired IN (0, 1)),
    group_id   TEXT REFERENCES user_groups (id),
    UNIQUE (owner_id, name)
);
CREATE INDEX remotes_group ON remotes (group_id);

-- Every call of a remote, each try of one. question: JSON, of a manual remote alone and only until it is answered; what
-- is sent to and comes from the outside is never kept. attribute: what the answer belongs to. job_id, ask_id: the job
-- that waits for a person, and the question it put. expires_at: steady. Written by core.activity.
CREATE TABLE remote_activity (
    id          TEXT PRIMARY KEY,
    remote_id   TEXT NOT NULL REFERENCES remotes (id) ON DELETE CASCADE,
    token_id    TEXT,
    attribute   TEXT,
    caller_id   TEXT NOT NULL,
    answerer_id TEXT,
    state       TEXT NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'cached', 'declined', 'expired', 'cancelled')),
    code        INTEGER,
    duration_ms BIGINT,
    question    TEXT,
    expires_at  BIGINT,
    created_at  BIGINT NOT NULL,
    finished_at BIGINT,
    job_id      TEXT,
    ask_id      TEXT
);
CREATE INDEX remote_activity_remote ON remote_activity (remote_id, id);
CREATE INDEX remote_activity_answerer ON remote_activity (answerer_id, id) WHERE answerer_id IS NOT NULL;
CREATE INDEX remote_activity_pending ON remote_activity (token_id, attribute) WHERE state = 'pending';
CREATE INDEX remote_activity_caller ON remote_activity (caller_id) WHERE state = 'pending';

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
CREATE INDEX rules_event ON rules (event);

-- What a set gives whoever enters it, until he leaves. attributes: JSON. Written by core.presence.
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
