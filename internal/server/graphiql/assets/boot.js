"use strict";
(() => {
  const root = document.getElementById("graphiql");
  const endpoint = root.dataset.endpoint;

  function isSubscription(params, document) {
    const operations = (document?.definitions ?? []).filter((d) => d.kind === "OperationDefinition");
    const chosen = operations.find((d) => d.name?.value === params.operationName) ?? operations[0];
    return chosen?.operation === "subscription";
  }

  // events yields the results of a subscription over server-sent events
  // (graphql-sse, distinct connections).
  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        buffer += value;
        const messages = buffer.split(/\r?\n\r?\n/);
        buffer = messages.pop();
        for (const message of messages) {
          const lines = message.split(/\r?\n/);
          const field = (name) =>
            lines.filter((l) => l.startsWith(name + ":")).map((l) => l.slice(name.length + 1).trimStart()).join("\n");
          if (field("event") === "complete") return;
          if (field("event") === "next") yield JSON.parse(field("data"));
        }
      }
    } finally {
      await reader.cancel();
    }
  }

  // The headers are those of GraphiQL's headers editor, for example
  // {"Authorization": "Bearer ..."}. A session's cookie goes along.
  async function fetcher(params, { headers, documentAST } = {}) {
    const streams = isSubscription(params, documentAST);
    const response = await fetch(endpoint, {
      method: "POST",
      credentials: "same-origin",
      headers: {
        ...headers,
        "Content-Type": "application/json",
        Accept: streams ? "text/event-stream" : "application/graphql-response+json, application/json;q=0.9",
      },
      body: JSON.stringify(params),
    });
    const type = response.headers.get("Content-Type") ?? "";
    if (type.startsWith("text/event-stream")) return events(response);
    if (type.includes("json")) return response.json();
    throw new Error(`The server answered ${response.status} ${response.statusText}`);
  }

  ReactDOM.createRoot(root).render(
    React.createElement(GraphiQL, {
      fetcher,
      defaultQuery: "# lethe\n",
      defaultEditorToolsVisibility: "headers",
      // Tokens typed into the headers editor are not kept in the browser.
      shouldPersistHeaders: false,
      showPersistHeadersSettings: false,
    }),
  );
})();
