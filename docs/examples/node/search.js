// Searches a collection from Node: node search.js COLLECTION QUERY [HOST:PORT]
// First: npm install

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PROTOS = process.env.TRIREME_PROTOS ?? path.join(__dirname, "../../../protos");
const [collection, query, address = "127.0.0.1:8080"] = process.argv.slice(2);

const definition = protoLoader.loadSync("trireme/v1/search.proto", {
  includeDirs: [PROTOS], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
});
const { trireme } = grpc.loadPackageDefinition(definition);
const client = new trireme.v1.SearchService(address, grpc.credentials.createInsecure());

const metadata = new grpc.Metadata();
if (process.env.TRIREME_API_KEY) {
  metadata.set("authorization", `Bearer ${process.env.TRIREME_API_KEY}`);
}
const request = { collection, query, page_size: 3 };
client.Search(request, metadata, { deadline: Date.now() + 10_000 }, (error, reply) => {
  if (error) {
    console.error(`${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
  } else {
    for (const hit of reply.hits) console.log(hit.score.toFixed(3), hit.document.id, hit.document.text);
    for (const each of reply.degraded) console.log("degraded:", each.stage, each.reason);
  }
  client.close();
});
