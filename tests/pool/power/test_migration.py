"""From the schema before power: containers' nameplates are in force in all hours before."""

from contextlib import closing

import numpy as np
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import pool.books.store
from pool.books.migrations.versions import energy
from pool.books.store import Store, open_store, upgrade
from pool.power.energy.efficiencies import efficiencies_at
from tests.fixtures.databases import Databases


def test_a_plate_that_was_there_is_known_of_hours_before_the_upgrade(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        config = Config()
        config.set_main_option("script_location", str(pool.books.store.MIGRATIONS))
        with closing(Store(pool.books.store.open_engine(url))) as store, store.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, str(energy.down_revision))
            rows = (
                "INSERT INTO tenants VALUES (1, 'acme', 'active', 0)",
                "INSERT INTO containers (id, tenant_id, name, nameplate_units, nameplate_ths, nameplate_kw,"
                " created_at_s) VALUES (1, 1, 'c01', 400, 44000, 1300, 0),"
                " (2, 1, 'c02', NULL, 44000, 1300, 0), (3, 1, 'c03', 400, 44000, NULL, 0),"
                " (4, 1, 'c04', 400, 0, 1300, 0)",
                "INSERT INTO workers (id, tenant_id, container_id, unit, first_seen_at_s, last_seen_at_s)"
                " SELECT id, 1, id, 'u', 0, 0 FROM containers",
            )
            for row in rows:
                connection.execute(text(row))
        upgrade(url)
        with closing(open_store(url)) as store, store.read() as connection:
            known = efficiencies_at(connection, 0)
        of = np.arange(5)
        assert known.column("mj_per_th", of).tolist() == [0, 29_545, 29_545, 0, 0]
        assert known.column("watts", of).tolist() == [0, 3_250, 0, 0, 0]
        assert known.column("hashrate_hps", of).tolist() == [0, 110 * 10**12, 0, 0, 0]
