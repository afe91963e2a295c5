-- Letters that bear a one-time link: the link is made as the letter leaves, so that none stands here.

ALTER TABLE mails ADD COLUMN link_purpose text CHECK (link_purpose IN ('invitation', 'reset'));
