// Package proxy is the built-in balancer: an HTTP reverse proxy that gives each request to the worker with the least in
// flight, keeps a bounded queue when all are occupied, sheds the less important classes first, and takes a worker out
// without failing a request.
//
// It runs as its own process (Run), so that a restart of the daemon never touches traffic. The daemon speaks to it
// through a unix socket (Client); Balancer starts it, keeps it told, and starts it again when it died.
//
// The process owns connections, queue and figures. It leaves to others: which workers exist (the target), TLS and body
// limits (nginx in front, or the workers), and what to make of the figures (observe/proxystats).
//
// What happens to a request that cannot be served by the worker it was given to:
//
//   - The connection could not be made: nothing was sent, so any request keeps its place and goes to another
//     worker; this one is tried again after a pause (100 ms, doubling to 2 s) by one request first.
//   - The connection broke before an answer: GET and HEAD without a body go to another worker, once. All others fail with
//     502, as the worker may have done the work already. (An idle kept-alive connection that the worker closed at
//     that very moment is such a case: worker_keepalive must stay below the worker's own limit.)
//   - The answer broke off half-way: the client's connection is cut, so that it cannot take the part for the whole.
package proxy
