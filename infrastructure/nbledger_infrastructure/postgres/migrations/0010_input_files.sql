-- Every notebook's document tells its input files; those written before had none. The member comes
-- last, as it does where a document is written anew.

UPDATE notebook_details
SET document = (left(document::text, -1) || ',"files":[]}')::json
WHERE document -> 'files' IS NULL;
