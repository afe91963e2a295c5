-- What clients order, book and ask for. Prices are copied from the catalog when an item comes into an order: they stay what was agreed.
--
-- A booking holds places of its item for a time. Two bookings never hold the same place at once: that is a constraint, whoever writes.

CREATE TABLE orders (
    tenant_id        text NOT NULL,
    order_id         uuid NOT NULL,
    number           integer NOT NULL CHECK (number > 0),   -- what people call it by
    kind             text NOT NULL CHECK (kind IN ('order', 'booking', 'request')),
    status           text NOT NULL CHECK (status IN ('new', 'confirmed', 'in_progress', 'done', 'cancelled')),
    contact_id       uuid NOT NULL,
    conversation_id  uuid,                                  -- in which it was made; null for those of programs and people
    total            numeric NOT NULL CHECK (total >= 0),   -- exact, with the digits of its currency
    currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    starts_at        timestamptz,
    duration_min     integer CHECK (duration_min > 0),
    party            integer CHECK (party > 0),
    comment          text NOT NULL DEFAULT '',
    delivery         jsonb,                                 -- a text, or fields with texts
    call_phone       text,                                  -- of a request to call back
    call_at          timestamptz,
    created_by       text NOT NULL,                         -- an author, as of messages
    agreed_at        timestamptz,                           -- when whoever ordered agreed to it as it stands; null until then
    said_after       integer NOT NULL DEFAULT 0,            -- the conversation's message behind which the client is told of it in full
    version          integer NOT NULL DEFAULT 1,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    changed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),    -- by the database's clock
    PRIMARY KEY (tenant_id, order_id),
    UNIQUE (tenant_id, number),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE SET NULL (conversation_id),
    CHECK ((kind = 'booking') = (starts_at IS NOT NULL)),
    CHECK ((starts_at IS NULL) = (duration_min IS NULL)),
    CHECK (call_at IS NULL OR call_phone IS NOT NULL)
);
CREATE INDEX orders_status ON orders (tenant_id, status, number);
CREATE INDEX orders_changed ON orders (tenant_id, changed_at);
CREATE INDEX orders_contact ON orders (tenant_id, contact_id);
CREATE INDEX orders_conversation ON orders (tenant_id, conversation_id) WHERE conversation_id IS NOT NULL;

CREATE TABLE order_items (
    tenant_id   text NOT NULL,
    order_id    uuid NOT NULL,
    place       integer NOT NULL,
    catalog_id  text NOT NULL,                              -- the item may be gone from the catalog meanwhile
    name        text NOT NULL,
    quantity    numeric NOT NULL CHECK (quantity > 0),
    price       numeric NOT NULL CHECK (price >= 0),        -- of one
    PRIMARY KEY (tenant_id, order_id, place),
    UNIQUE (tenant_id, order_id, catalog_id),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders ON DELETE CASCADE
);

-- The places of an item that can be booked so often at once, each with a number of its own: GiST compares numbers without an extension.
CREATE TABLE booking_places (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    item_id     text NOT NULL,
    place       integer NOT NULL CHECK (place > 0),
    place_key   bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant_id, item_id, place),
    UNIQUE (tenant_id, place_key)
);

CREATE TABLE booking_slots (
    tenant_id   text NOT NULL,
    place_key   bigint NOT NULL,
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    order_id    uuid NOT NULL,
    held_until  timestamptz,                                -- until when it waits for the client's word; null once it is agreed
    PRIMARY KEY (tenant_id, place_key, starts_at),
    FOREIGN KEY (tenant_id, place_key) REFERENCES booking_places (tenant_id, place_key) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders ON DELETE CASCADE,
    CHECK (starts_at < ends_at),
    CONSTRAINT booking_slots_once EXCLUDE USING gist (int8range(place_key, place_key, '[]') WITH &&, tstzrange(starts_at, ends_at) WITH &&)
);
CREATE INDEX booking_slots_order ON booking_slots (tenant_id, order_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['orders', 'order_items', 'booking_places', 'booking_slots'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON orders TO gateway_app;
GRANT SELECT, INSERT, DELETE ON order_items, booking_slots TO gateway_app;
GRANT UPDATE (held_until) ON booking_slots TO gateway_app;
GRANT SELECT, INSERT ON booking_places TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON orders, order_items, booking_places, booking_slots TO gateway_engine;
