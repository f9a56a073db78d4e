-- Sets that no rule is asked about and nobody is told of; whether there are rules for an event, found at once.

ALTER TABLE sets ADD COLUMN has_events INTEGER NOT NULL DEFAULT 1 CHECK (has_events IN (0, 1));

CREATE INDEX rules_event ON rules (event);
