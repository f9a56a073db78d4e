-- Jobs with attempts, priorities, approval, questions, schedules.

ALTER TABLE jobs RENAME TO jobs_before;
DROP INDEX jobs_owner;
DROP INDEX jobs_live;
DROP INDEX jobs_finished;

-- Work: one row a job. Written by jobs.rows.
-- data, result, error, progress: JSON. attempt counts the starts, and fences: only the newest may end the job.
-- run_at: not before (delay, retry). is_held: waits for somebody's approval. retry_of: the ended job this one repeats.
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
    finished_at    BIGINT
);
CREATE INDEX jobs_owner ON jobs (owner_id, id);
CREATE INDEX jobs_session ON jobs (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX jobs_parent ON jobs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX jobs_live ON jobs (state) WHERE state IN ('queued', 'running', 'waiting_input');
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_dedup ON jobs (owner_id, function, dedup_key) WHERE dedup_key IS NOT NULL;

INSERT INTO jobs (id, function, lane, state, owner_id, session_id, parent_id, attempt, data, result, error,
                  created_at, started_at, finished_at)
SELECT id, function, lane, state, owner_id, session_id, parent_id, 1, data, result, error,
       created_at, started_at, finished_at
FROM jobs_before;
DROP TABLE jobs_before;

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
-- finds the answers it got. answer: JSON; a secret one is never stored. Written by jobs.asks.
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
-- Written by jobs.callbacks.
CREATE TABLE callbacks (
    job_id  TEXT PRIMARY KEY REFERENCES jobs (id),
    url     TEXT NOT NULL,
    secret  TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    tries   INTEGER NOT NULL,
    status  INTEGER,
    problem TEXT,
    next_at BIGINT
);
CREATE INDEX callbacks_next ON callbacks (next_at) WHERE next_at IS NOT NULL;

-- Jobs to come: at a time, at an interval, or by a cron line. Written by jobs.schedules.
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
    created_at     BIGINT NOT NULL
);
CREATE INDEX schedules_owner ON schedules (owner_id, id);
CREATE INDEX schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;
