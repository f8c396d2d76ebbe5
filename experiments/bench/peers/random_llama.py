"""A Llama of given sizes with random weights in place of a model on disk, for scripts that compare Hone with a peer."""
import contextlib
import tempfile


def write_random_llama(folder, sizes, tokenizer):
    """A Hugging Face directory; its tokenizer's ids are the first ones of the vocabulary."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    hidden, layers, heads, kv_heads, ffn, vocabulary = (int(x) for x in sizes.split(","))
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
                         intermediate_size=ffn, vocab_size=vocabulary, max_position_embeddings=8192, tie_word_embeddings=False,
                         bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def add_model_options(parser):
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--random", help="sizes of a random model in place of --model's weights")


@contextlib.contextmanager
def model_on_disk(arguments):
    """While it lasts, arguments.model is a directory: the one given, or a random model's."""
    with tempfile.TemporaryDirectory() as folder:
        if arguments.random:
            write_random_llama(folder, arguments.random, arguments.model)
            arguments.model = folder
        yield
