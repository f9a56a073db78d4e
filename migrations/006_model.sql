-- A group of every user's own, parents and relations of attributes.

ALTER TABLE users ADD COLUMN group_id TEXT NOT NULL DEFAULT '';
-- Names that begin with @ are the users' own groups' from now on.
UPDATE user_groups SET name = 'group ' || name || ' ' || id WHERE name LIKE '@%';
UPDATE users SET group_id = 'g_' || substr(id, 3);
INSERT INTO user_groups (id, name, owner_id, created_at) SELECT group_id, '@' || name, id, created_at FROM users;
INSERT INTO user_group_members (group_id, user_id, is_admin) SELECT group_id, id, 1 FROM users;
CREATE UNIQUE INDEX users_group ON users (group_id);

ALTER TABLE attributes ADD COLUMN parent_id TEXT REFERENCES attributes (id);
ALTER TABLE attributes ADD COLUMN relations TEXT NOT NULL DEFAULT '{}';
CREATE INDEX attributes_parent ON attributes (parent_id);
