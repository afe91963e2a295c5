"""Language models behind OpenAI's two APIs, of OpenAI or of any server that speaks them. No connection of a company: no adapter.

protocol.py   what is asked and answered, whichever API it is; why no answer came
chat.py       chat completions: a request's body, and what is read of its stream
responses.py  the same of the responses API
lines.py      a stream as its events
transport.py  connections through the dialer that judges addresses
client.py     one model: requests by the official SDK, deadlines, retries
"""
