// Tlogcheck checks a whole transparency log over HTTP: its checkpoint, tiles and entries, and the
// proofs that are served for its last entry and its growth. It knows C2SP and RFC 6962 by others'
// packages alone.
//
//	TOKEN=… tlogcheck https://ledger.example.com/audit/log/<tenant> <verifier key>
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type withToken struct{}

func (withToken) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
	return http.DefaultTransport.RoundTrip(request)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Served is a proof that the service has computed.
func served(ctx context.Context, fetcher *torchwood.TileFetcher, path string, number int64) []tlog.Hash {
	var proof struct{ Hashes []tlog.Hash }
	check(json.Unmarshal(must(fetcher.ReadEndpoint(ctx, fmt.Sprintf(path, number))), &proof))
	return proof.Hashes
}

func main() {
	ctx := context.Background()
	log.SetFlags(0)
	client := torchwood.WithHTTPClient(&http.Client{Transport: withToken{}})
	fetcher := must(torchwood.NewTileFetcher(os.Args[1], client))
	verifier := must(note.NewVerifier(os.Args[2]))

	signed := must(note.Open(must(fetcher.ReadEndpoint(ctx, "checkpoint")), note.VerifierList(verifier)))
	checkpoint := must(torchwood.ParseCheckpoint(signed.Text))
	if checkpoint.Origin != verifier.Name() {
		log.Fatalf("the checkpoint is of %s", checkpoint.Origin)
	}

	// Entries checks each one against the tiles, and the tiles against the root. What is computed
	// beside that takes the entries alone.
	var hashes []tlog.Hash
	computed := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for at, index := range indexes {
			found[at] = hashes[index]
		}
		return found, nil
	})
	reader := must(torchwood.NewClient(fetcher))
	var size, position int64
	var first, last tlog.Hash
	for size < checkpoint.N {
		before := size
		for number, entry := range reader.Entries(ctx, checkpoint.Tree, size) {
			hashes = append(hashes, must(tlog.StoredHashes(number, entry, computed))...)
			last = tlog.RecordHash(entry)
			if number == 0 {
				first = last
			}
			size = number + 1
			var told struct{ Position int64 }
			check(json.Unmarshal(entry, &told))
			position = told.Position
		}
		check(reader.Err())
		if size == before {
			log.Fatalf("there are no entries after %d", size)
		}
	}
	if must(tlog.TreeHash(size, computed)) != checkpoint.Hash {
		log.Fatal("the entries do not make the root")
	}

	inclusion := served(ctx, fetcher, "inclusion?position=%d", position)
	check(tlog.CheckRecord(inclusion, size, checkpoint.Hash, size-1, last))
	growth := served(ctx, fetcher, "consistency?from=1&to=%d", size)
	check(tlog.CheckTree(growth, size, checkpoint.Hash, 1, first))
	fmt.Printf("%s: %d entries, all of them signed for\n", checkpoint.Origin, size)
}
