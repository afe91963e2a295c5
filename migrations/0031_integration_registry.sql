-- Every outside system that companies can connect, made from the adapters at each start: the same for all companies.
CREATE TABLE integration_registry (
    provider      text PRIMARY KEY,
    type          text NOT NULL CHECK (type IN ('crm', 'channel', 'pbx')),
    name          text NOT NULL,
    description   text NOT NULL,
    icon_url      text,
    config_schema jsonb NOT NULL CHECK (jsonb_typeof(config_schema) = 'array'),
    docs_url      text,
    is_available  boolean NOT NULL DEFAULT true,
    translations  jsonb NOT NULL DEFAULT '{}',             -- by language: description and config_schema
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON integration_registry TO gateway_app;
GRANT SELECT, INSERT, UPDATE ON integration_registry TO gateway_engine;
