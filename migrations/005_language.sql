-- Playbooks of sessions, contexts, words.

-- What a user's sessions share. Written by rpcserver.contexts.
-- number: 0, 1, ... for each user. params: JSON object.
CREATE TABLE contexts (
    user_id        TEXT NOT NULL REFERENCES users (id),
    name           TEXT NOT NULL,
    number         INTEGER NOT NULL,
    coderoot       TEXT,
    params         TEXT NOT NULL DEFAULT '{}',
    is_interactive INTEGER NOT NULL DEFAULT 1 CHECK (is_interactive IN (0, 1)),
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (user_id, name)
);

-- The playbook of each session: one row an action, in the order they were added. Written by rpcserver.playbooks.
-- text: the action as heroscript, secrets as references. result, error: JSON. job_id: the play that touched it last.
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
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    handled_by  TEXT,
    result      TEXT,
    error       TEXT,
    job_id      TEXT,
    asked       INTEGER NOT NULL DEFAULT 0,
    started_at  BIGINT,
    finished_at BIGINT,
    PRIMARY KEY (session_id, number)
);
CREATE INDEX playbook_actions_left ON playbook_actions (session_id) WHERE state <> 'done';

-- Which filter has which priority in a session's playbook; position: the order in which they were registered.
-- Written by rpcserver.playbooks.
CREATE TABLE playbook_priorities (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    filter     TEXT NOT NULL,
    number     INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (session_id, filter)
);

-- Words that stand for {NAME} in a session's scripts. Written by rpcserver.playbooks.
CREATE TABLE session_env (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (session_id, name)
);
