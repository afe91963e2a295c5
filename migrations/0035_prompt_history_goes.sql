-- A company that is deleted takes the history of its prompts along. The engine could remove it with the prompt already.
GRANT DELETE ON prompt_history TO gateway_engine;
