-- Remotes and scripts with policies; questions to persons that are questions of jobs.

ALTER TABLE scripts ADD COLUMN is_retired    INTEGER NOT NULL DEFAULT 0 CHECK (is_retired IN (0, 1));
ALTER TABLE scripts ADD COLUMN extra_params  TEXT NOT NULL DEFAULT '{}';
ALTER TABLE scripts ADD COLUMN output_keys   TEXT NOT NULL DEFAULT '[]';
ALTER TABLE scripts ADD COLUMN cool_down_s   REAL NOT NULL DEFAULT 0;

-- Which text of somebody else's script a user attached to what is his. Written by core.scripts.
CREATE TABLE script_pins (
    user_id   TEXT NOT NULL REFERENCES users (id),
    script_id TEXT NOT NULL REFERENCES scripts (id) ON DELETE CASCADE,
    sha256    TEXT NOT NULL,
    PRIMARY KEY (user_id, script_id)
);
CREATE INDEX script_pins_script ON script_pins (script_id);

ALTER TABLE remotes ADD COLUMN is_retired INTEGER NOT NULL DEFAULT 0 CHECK (is_retired IN (0, 1));
ALTER TABLE remotes ADD COLUMN group_id   TEXT REFERENCES user_groups (id);
ALTER TABLE remotes ADD COLUMN redirect_id TEXT REFERENCES remotes (id);
CREATE INDEX remotes_group ON remotes (group_id);
CREATE INDEX remotes_redirect ON remotes (redirect_id);

ALTER TABLE remote_activity RENAME TO remote_activity_before;
DROP INDEX remote_activity_remote;
DROP INDEX remote_activity_answerer;

-- Every call of a remote, each try of one. question: JSON, of a manual remote alone and only until it is answered; what
-- is sent to and comes from the outside is never kept. attribute: what the answer belongs to. job_id, ask_id: the job
-- that waits for a person, and the question it put. Written by core.activity.
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

INSERT INTO remote_activity (id, remote_id, token_id, attribute, caller_id, answerer_id, state, code, duration_ms,
                             question, expires_at, created_at, finished_at)
SELECT id, remote_id, token_id, attribute, caller_id, answerer_id, state, code, duration_ms,
       question, expires_at, created_at, finished_at
FROM remote_activity_before;
DROP TABLE remote_activity_before;
