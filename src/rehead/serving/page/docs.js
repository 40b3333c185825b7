"use strict";

// Draws /openapi.json: its paths with a command to try each, and below them the shapes of what is sent and answered.

const $ = (id) => document.getElementById(id);
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const named = (reference) => reference.split("/").at(-1);

function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

function link(text, target) {
  const made = element("a", text);
  made.href = target;
  return made;
}

// What a value may be, in words, with links to the shapes.
function type(schema) {
  const between = (choices, word) => choices.flatMap((choice, n) => (n ? [word, ...type(choice)] : type(choice)));
  if (!schema) return ["anything"];
  if (schema.$ref) return [link(named(schema.$ref), `#${named(schema.$ref)}`)];
  if (schema.anyOf) return between(schema.anyOf, " or ");
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.type === "array") return ["list of ", ...type(schema.items)];
  if (schema.additionalProperties?.type) return ["object of ", ...type(schema.additionalProperties)];
  return [schema.type ?? "anything"];
}

function table(heads, rows) {
  const head = element("tr", ...heads.map((text) => element("th", text)));
  const body = rows.map((cells) => element("tr", ...cells.map((cell) => element("td", ...[cell].flat()))));
  const made = element("div", element("table", element("thead", head), element("tbody", ...body)));
  made.className = "scrolling words";
  made.tabIndex = 0;
  made.setAttribute("role", "region");
  made.setAttribute("aria-label", heads.join(", "));
  return made;
}

const meaning = (schema) => schema?.description ?? schema?.anyOf?.find((one) => one.description)?.description ?? "";

function fields(schema) {
  const required = schema.required ?? [];
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => [
    element("code", name),
    type(field),
    [meaning(field), required.includes(name) ? " (always there)" : ""].join(""),
  ]);
  return table(["field", "type", "meaning"], rows);
}

function command(method, path, operation, schemas) {
  const parts = ["curl"];
  const bodies = operation.requestBody?.content ?? {};
  if (method !== "get" && !operation.requestBody) parts.push("-X", method.toUpperCase());
  parts.push(location.origin + path.replace(/[{](\w+)[}]/g, (_, name) => name.toUpperCase()));
  if (operation.security) parts.push("-H", '"Authorization: Bearer $REHEAD_API_KEY"');
  if (bodies["application/json"]) {
    const { schema } = bodies["application/json"];
    const example = (schema.$ref ? schemas[named(schema.$ref)] : schema).examples?.[0] ?? {};
    parts.push("-H", quoted("Content-Type: application/json"), "-d", quoted(JSON.stringify(example)));
  }
  if (bodies["multipart/form-data"]) parts.push("-F", "file=@messages.csv");
  return parts.join(" ");
}

function drawn(method, path, operation, schemas) {
  const section = element("section", element("h2", element("code", `${method.toUpperCase()} ${path}`)));
  section.id = operation.operationId;
  section.append(element("p", operation.description ?? operation.summary ?? ""));
  section.append(element("pre", command(method, path, operation, schemas)));
  if (operation.parameters) {
    const rows = operation.parameters.map((one) => [
      element("code", one.name),
      `${one.in}${one.required ? ", needed" : ""}`,
      one.description ?? meaning(one.schema),
    ]);
    section.append(table(["parameter", "where", "meaning"], rows));
  }
  for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
    section.append(element("h3", "Send"), fields(schema.$ref ? schemas[named(schema.$ref)] : schema));
  }
  const answers = Object.entries(operation.responses).map(([status, answer]) => {
    const [kind, content] = Object.entries(answer.content ?? {})[0] ?? ["", {}];
    const shape = content.schema?.$ref || content.schema?.items ? type(content.schema) : [kind];
    return [status, shape, answer.description];
  });
  section.append(element("h3", "Answers"), table(["status", "body", "meaning"], answers));
  return section;
}

async function start() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`The server answers ${response.status} for /openapi.json.`);
  const api = await response.json();
  const schemas = api.components?.schemas ?? {};
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => [method, path, operation]),
  );
  $("security").hidden = !operations.some(([, , operation]) => operation.security);
  $("paths").append(
    ...operations.map(([method, path, operation]) =>
      element("li", link(`${method.toUpperCase()} ${path}`, `#${operation.operationId}`), ` ${operation.description ?? ""}`),
    ),
  );
  $("operations").append(...operations.map(([method, path, operation]) => drawn(method, path, operation, schemas)));
  for (const [name, schema] of Object.entries(schemas)) {
    const section = element("section", element("h3", name), element("p", schema.description ?? ""), fields(schema));
    section.id = name;
    $("shapes").append(section);
  }
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

start().catch((error) => {
  $("trouble").textContent = `${error.message} Load this page again when the server runs.`;
  $("trouble").hidden = false;
});
