# sqlite3: tables, indexes, joins, texts and blobs, in memory and in a file.
# shellcheck shell=bash disable=SC2034
needs=(sqlite3)

write_statements() {
    cat <<'END'
PRAGMA journal_mode = wal;
PRAGMA cache_size = 3000;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, size INTEGER, body BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, 'name' || (i * 7919 % 60000), i % 300, zeroblob(i % 500) FROM n;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_size ON item(size, name);
CREATE TABLE other AS SELECT id * 3 AS id, upper(name) AS name FROM item WHERE id % 2 = 0;
SELECT count(*), sum(length(body)), max(name) FROM item;
SELECT size, count(*), min(name), group_concat(id % 10, '') FROM item WHERE id < 9000
  GROUP BY size ORDER BY 2 DESC, 1 LIMIT 20;
SELECT count(*) FROM item JOIN other USING (id) WHERE item.name < lower(other.name);
UPDATE item SET name = name || hex(body) WHERE id % 5 = 0;
DELETE FROM item WHERE id % 3 = 0;
SELECT sum(length(name)) FROM item;
SELECT length(json_group_array(name)) FROM item;
VACUUM;
PRAGMA integrity_check;
END
}

drive() {
    write_statements >statements
    checked sqlite3 file.db '.read statements'
    checked sqlite3 :memory: '.read statements'
}
