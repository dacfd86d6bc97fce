-- A review log as schema version 1 kept it (SQLite).
BEGIN TRANSACTION;
CREATE TABLE events (
    sequence BIGINT NOT NULL PRIMARY KEY, event_id VARCHAR(36) NOT NULL UNIQUE, kind VARCHAR(16) NOT NULL,
    queue_id VARCHAR(16) NOT NULL, pair_id TEXT NOT NULL, reviewer VARCHAR(64) NOT NULL, at VARCHAR(40) NOT NULL,
    body TEXT NOT NULL, previous VARCHAR(64) NOT NULL, hash VARCHAR(64) NOT NULL UNIQUE
);
INSERT INTO "events" VALUES(1,'10d52b11-c797-4c65-809b-1273fb697cb8','queue','q001','','Ada','2030-05-01T12:00:00.000+00:00','{"data":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","data_name":"","items":"0aa1f4ed4236503fee339e9bd96a31c94c87798593dff439c5d935c85074072b","n_items":3,"name":"first","population":{"clean":9,"faulty":3,"noisy":0},"run_id":"0001-dbpm-s0","settings":{"balance_by":null,"blind":true,"control_share":0,"kinds":null,"lease_seconds":900,"order":"suspicious","pair_ids":null,"second_share":0,"seed":0,"size":null,"where":{}}}','0000000000000000000000000000000000000000000000000000000000000000','885f71e47ef08a0ac037c24d08027d1b017e400b2f17310b5db793298bf54f2a');
INSERT INTO "events" VALUES(2,'0ac8e744-3750-4df6-a75b-68522cfb80bf','lease','q001','p0000','Ada','2030-05-01T12:00:30.000+00:00','{"expires":"2030-05-01T12:15:30.000+00:00","seconds":900}','885f71e47ef08a0ac037c24d08027d1b017e400b2f17310b5db793298bf54f2a','15c283024fd59f88f52bf4bbfe3b4e8a8177f8a8275457d83830ccf0fa75da2d');
INSERT INTO "events" VALUES(3,'05b54559-c648-4ce1-a58a-5f83c0a3034d','verdict','q001','p0000','Ada','2030-05-01T12:00:30.000+00:00','{"better_pair_id":null,"comment":"","corrected_label":null,"reason":"","seconds":null,"verdict":"fits"}','15c283024fd59f88f52bf4bbfe3b4e8a8177f8a8275457d83830ccf0fa75da2d','dcbcd68d450ac7f9518433f1381687f38b884ee7073d86a789ecbbead78ec286');
INSERT INTO "events" VALUES(4,'91b2a1de-ff4b-4c2f-a515-e1be13f803b4','lease','q001','p0001','Bob','2030-05-01T12:01:00.000+00:00','{"expires":"2030-05-01T12:16:00.000+00:00","seconds":900}','dcbcd68d450ac7f9518433f1381687f38b884ee7073d86a789ecbbead78ec286','dd3fe189acb1893ec45e6e0e0f4a70e32a1e6787e86d6981735ccba9b08a2e2b');
INSERT INTO "events" VALUES(5,'16905438-a487-47c4-91c3-af2a657bc9ed','verdict','q001','p0001','Bob','2030-05-01T12:01:00.000+00:00','{"better_pair_id":null,"comment":"n\u00e4her ansehen","corrected_label":null,"reason":"","seconds":null,"verdict":"wrong_note"}','dd3fe189acb1893ec45e6e0e0f4a70e32a1e6787e86d6981735ccba9b08a2e2b','b17a6824bfefec58c33cb3cc73dfe0badc2d96d6d0c67b8c74b3050068473a23');
INSERT INTO "events" VALUES(6,'6c4ee7b4-6d97-41e9-bcd5-76036c1f5cce','undo','q001','p0001','Bob','2030-05-01T12:01:05.000+00:00','{"refers":"16905438-a487-47c4-91c3-af2a657bc9ed"}','b17a6824bfefec58c33cb3cc73dfe0badc2d96d6d0c67b8c74b3050068473a23','0a25d22c42c6ddae42e52fc3d0917239dc066fa17365b95f3ce1a6f4c82bfb4e');
CREATE TABLE queue_items (
    queue_id VARCHAR(16) NOT NULL, position INTEGER NOT NULL, pair_id TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (queue_id, position)
);
INSERT INTO "queue_items" VALUES('q001',0,'p0000','{"control":false,"facts":{"groups":{"race":"White"},"mean_loss":9.910885061964363,"weight":5.795689850390288e-06,"z":4.910885061964363},"readers":1,"stratum":"faulty"}');
INSERT INTO "queue_items" VALUES('q001',1,'p0001','{"control":false,"facts":{"groups":{"race":"Asian"},"mean_loss":8.809360141291611,"weight":0.0007061998103425059,"z":3.809360141291611},"readers":1,"stratum":"faulty"}');
INSERT INTO "queue_items" VALUES('q001',2,'p0002','{"control":false,"facts":{"groups":{"race":"White"},"mean_loss":8.122920571808585,"weight":0.007625049620428718,"z":3.122920571808584},"readers":1,"stratum":"faulty"}');
CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO "schema_version" VALUES(1);
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the review log is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the review log is append-only'); END;
COMMIT;
